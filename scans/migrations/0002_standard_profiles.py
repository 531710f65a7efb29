from django.db import migrations


def add_rows(apps, schema_editor):
    apps.get_model("scans", "ScanCounter").objects.get_or_create(pk=1)
    apps.get_model("scans", "ScanProfile").objects.get_or_create(
        name="standard", defaults={"engines": {"ports": {}, "tls": {}, "http": {}}}
    )


class Migration(migrations.Migration):
    """The counter's one row, and a profile to begin with: every engine, with its defaults."""

    dependencies = [("scans", "0001_initial")]
    operations = [migrations.RunPython(add_rows, migrations.RunPython.noop)]
