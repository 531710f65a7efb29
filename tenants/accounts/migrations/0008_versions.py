from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_support_access")]

    operations = [
        migrations.AddField("user", "version", models.PositiveIntegerField(default=1)),
    ]
