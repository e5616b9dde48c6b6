"""Schedules: when the source is listed anew. What follows from a new listing is the refresh sensor's business."""

import dagster as dg

from definemed_pipeline.defs.jobs import list_source
from definemed_pipeline.recipe import active_recipe

REFRESH = active_recipe().refresh

# Switched on by a person, in the UI under Automation: a refresh spends hours of compute.
weekly_refresh = dg.ScheduleDefinition(
    name="weekly_refresh",
    job=list_source,
    cron_schedule=REFRESH.cron,
    execution_timezone=REFRESH.timezone,
    default_status=dg.DefaultScheduleStatus.STOPPED,
    description="Lists the source anew. With the sensor corpus_refresh running, new and changed files then enter FineMed-de.",
)
