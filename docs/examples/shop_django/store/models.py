"""What the shop keeps."""

from django.db import models
from django.db.models import F


class SoldOutError(Exception):
    """There are not enough pieces."""


class Good(models.Model):
    """Something that is sold."""

    name = models.CharField(max_length=40, primary_key=True)
    pieces = models.PositiveIntegerField(default=0)

    def __str__(self) -> str:
        return self.name


class Order(models.Model):
    """What a customer orders."""

    number = models.CharField(max_length=20, unique=True)
    to = models.EmailField()
    state = models.CharField(max_length=10, default="new", editable=False)
    reported = models.BooleanField(default=False, editable=False)

    def __str__(self) -> str:
        return self.number


class Line(models.Model):
    """A line of an order."""

    order = models.ForeignKey(Order, models.CASCADE, related_name="lines")
    good = models.ForeignKey(Good, models.PROTECT)
    count = models.PositiveIntegerField()
    price = models.PositiveIntegerField(help_text="cents a piece")
    taken = models.BooleanField(default=False, editable=False)

    def __str__(self) -> str:
        return f"{self.count} x {self.good_id}"

    def take(self) -> None:
        """Take its pieces; a second time takes nothing, since a message may come twice. Call it in a transaction."""
        if not Line.objects.filter(pk=self.pk, taken=False).update(taken=True):
            return
        enough = Good.objects.filter(pk=self.good_id, pieces__gte=self.count)
        if not enough.update(pieces=F("pieces") - self.count):
            raise SoldOutError(f"{self.good_id}: {self.count} wanted, {self.good.pieces} left")

    def give_back(self) -> None:
        """Give back what was taken. Call it in a transaction."""
        if Line.objects.filter(pk=self.pk, taken=True).update(taken=False):
            Good.objects.filter(pk=self.good_id).update(pieces=F("pieces") + self.count)
