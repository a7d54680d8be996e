"""The pages of the shop in the admin; those of results and dead letters are there by themselves."""

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from store.models import Good, Line, Order
from store.tasks import remind


class LineInline(admin.TabularInline):
    """The lines of an order."""

    model = Line


@admin.register(Good)
class GoodAdmin(admin.ModelAdmin):
    """Goods with their pieces."""

    list_display = ("name", "pieces")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders with their lines."""

    list_display = ("number", "to", "state")
    inlines = (LineInline,)
    actions = ("remind_customers",)

    @admin.action(description="Remind the customers")
    def remind_customers(self, _request: HttpRequest, orders: QuerySet[Order]) -> None:
        """Send a letter to each customer; tasks keep to the rate of the mail server."""
        for to in orders.values_list("to", flat=True).distinct():
            remind.enqueue(to)
