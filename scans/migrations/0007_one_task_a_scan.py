from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [
        ("scans", "0006_scan_state"),
    ]

    operations = [
        migrations.AlterField(
            model_name="taskqueue",
            name="task_id",
            field=models.PositiveBigIntegerField(help_text="the scan's number", unique=True),
        ),
        migrations.AlterField(
            model_name="scanrun",
            name="started_at",
            field=models.DateTimeField(db_default=Now(), editable=False),
        ),
        migrations.AddIndex(
            model_name="scan",
            index=models.Index(fields=["created_at"], name="scan_asked"),
        ),
        migrations.AddIndex(
            model_name="scanrun",
            index=models.Index(fields=["started_at", "ended_at"], name="scanrun_took"),
        ),
    ]
