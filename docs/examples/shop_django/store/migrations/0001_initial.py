"""Creates the tables of the shop."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """Made by ``manage.py makemigrations``."""

    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Good",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("pieces", models.PositiveIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Order",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("number", models.CharField(max_length=20, unique=True)),
                ("to", models.EmailField(max_length=254)),
                ("state", models.CharField(default="new", editable=False, max_length=10)),
                ("reported", models.BooleanField(default=False, editable=False)),
            ],
        ),
        migrations.CreateModel(
            name="Line",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("count", models.PositiveIntegerField()),
                ("price", models.PositiveIntegerField(help_text="cents a piece")),
                ("taken", models.BooleanField(default=False, editable=False)),
                ("good", models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, to="store.good")),
                (
                    "order",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="lines", to="store.order"
                    ),
                ),
            ],
        ),
    ]
