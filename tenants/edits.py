"""How people change a ``VersionedModel``: through the API, and on the pages of an admin site."""

from typing import Any, cast

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from tenants.audit.trail import lock_head
from tenants.versions import VersionedModel, differences, stale


@extend_schema_field({"type": "integer", "minimum": 1})
class ReadVersionField(serializers.Field):
    """A number as JSON writes numbers: nothing that could be read as one."""

    default_error_messages = {"invalid": "The version that was read: a whole number from 1."}

    def to_internal_value(self, data):
        if type(data) is not int or data < 1:
            self.fail("invalid")
        return data

    def to_representation(self, value):
        return value


class BothValuesSerializer(serializers.Serializer):
    yours = serializers.JSONField(help_text="as the request has it")
    theirs = serializers.JSONField(help_text="as it is now")


class EditConflictSerializer(serializers.Serializer):
    """``version`` and ``errors`` come with the code ``stale``; any other code comes without."""

    code = serializers.CharField(help_text="`stale`: somebody has changed it since it was read")
    detail = serializers.CharField(help_text="for people")
    version = serializers.IntegerField(required=False, help_text="the one that it is at now")
    errors = serializers.DictField(  # type: ignore[assignment]  # a serializer's own errors are not asked for here
        child=BothValuesSerializer(), required=False, help_text="by field, of those that differ: both values"
    )


class ChangeSerializer(serializers.ModelSerializer):
    """
    What a PATCH takes: the ``version`` that was read, and whichever fields it changes. Not for ``partial=True``, which
    would not ask for the version.

    Raises ``StaleVersionError`` when it is not the row's version any more.
    """

    version = ReadVersionField(help_text="the one that was read: 409 if somebody has changed it since")

    def get_fields(self):
        fields = super().get_fields()
        for name, field in fields.items():
            if not field.read_only and name != "version":
                field.required = False
        return fields

    def validate(self, attrs):
        if attrs["version"] != self.instance.version:
            raise stale(self.instance, attrs["version"], attrs)
        return attrs

    def update(self, instance, validated_data):
        changes = differences(instance, validated_data)
        for name in changes:
            setattr(instance, name, validated_data[name])
        instance.save(update_fields=changes)
        return instance


class VersionedForm(forms.ModelForm):
    """
    Carries the version that its page showed. When that is stale the form is shown again, with what the person wrote,
    what it has become, and the new version: sent once more, it holds.
    """

    version = forms.IntegerField(min_value=1, widget=forms.HiddenInput)

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.instance._state.adding:
            del self.fields["version"]

    def clean(self):
        cleaned = super().clean() or self.cleaned_data
        if "version" in cleaned:
            self._require_version(cleaned)
        return cleaned

    def _require_version(self, cleaned: dict[str, Any]) -> None:
        """Keeps the row locked until the transaction ends: what is right here is right when it is saved."""
        lock_head()
        rows = cast(Any, type(self.instance)._base_manager).select_for_update()
        row = rows.filter(pk=self.instance.pk).first()
        if row is None:
            raise ValidationError("Somebody has deleted this.", code="deleted")
        if row.version == cleaned["version"]:
            return
        self.data = data = cast(Any, self.data).copy()
        data[self.add_prefix("version")] = str(row.version)
        conflicts = differences(row, cleaned)
        for name, (yours, theirs) in conflicts.items():
            self.add_error(name, ValidationError(f"Yours is {yours!r:.200}, theirs is {theirs!r:.200}.", code="stale"))
        raise ValidationError(
            "Somebody else has changed this since you opened it: nothing is saved. "
            "Look at what differs below, and save again for yours.",
            code="stale",
        )


class VersionedAdmin(admin.ModelAdmin):
    """For a model whose form is a ``VersionedForm``. Of a row that was there before it writes what was changed."""

    def get_fieldsets(self, request, obj=None):
        """The version, hidden, where something can be changed."""
        fieldsets = [
            (name, options | {"fields": [field for field in options["fields"] if field != "version"]})
            for name, options in super().get_fieldsets(request, obj)
        ]
        if obj is not None and self.has_change_permission(request, obj):
            fieldsets.append((None, {"fields": ["version"]}))
        return fieldsets

    def save_model(self, request, obj: VersionedModel, form, change):
        if not change:
            return super().save_model(request, obj, form, change)
        columns = {field.name for field in obj._meta.concrete_fields} - {"version"}
        return obj.save(update_fields=columns.intersection(form.changed_data))
