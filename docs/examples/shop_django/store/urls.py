"""Addresses of the shop."""

from django.urls import path

from store import views

urlpatterns = [
    path("orders", views.orders),
    path("goods/<good>", views.pieces),
    path("invoices/<number>", views.invoice),
    path("pictures", views.picture),
    path("catalogues", views.catalogues),
    path("catalogues/<id>", views.cancel),
    path("catalogues/<id>/events", views.events),
]
