from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("scans", "0002_standard_profiles")]

    operations = [
        migrations.AddField("target", "version", models.PositiveIntegerField(default=1)),
    ]
