from django.urls import path

import config.urls
from tests.hostile import doors

urlpatterns = [
    path("api/v1/hostile/", doors.view),
    path("api/v1/hostile/tell/", doors.tell),
    *config.urls.urlpatterns,
]
handler404 = config.urls.handler404
handler500 = config.urls.handler500
