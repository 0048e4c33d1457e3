"""Django REST framework with djangorestframework-api-key. It runs in the environment of bench/peers/venv.

`python -c "import django_app; django_app.prepare()"` creates its tables, and prints a key.
"""

import os
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings

_url = urlsplit(os.environ["BENCH_DATABASE"])
settings.configure(
    DEBUG=False,
    SECRET_KEY=os.environ["BENCH_SECRET"],
    ALLOWED_HOSTS=["*"],
    ROOT_URLCONF="django_app",
    USE_TZ=True,
    MIDDLEWARE=["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"],
    INSTALLED_APPS=["rest_framework", "rest_framework_api_key"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": _url.path.removeprefix("/"),
            "USER": _url.username,
            "HOST": parse_qs(_url.query)["host"][0],
            "CONN_MAX_AGE": None,  # persistent connections
        }
    },
    CACHES={
        "default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": os.environ["BENCH_LIMITS"]}
    },
    REST_FRAMEWORK={
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_THROTTLE_RATES": {"minute": "1000000/minute", "hour": "1000000/hour", "day": "1000000/day"},
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
        "UNAUTHENTICATED_USER": None,
    },
)
django.setup()

from django.core.management import call_command  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.db import models  # noqa: E402
from django.urls import path  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.serializers import ModelSerializer  # noqa: E402
from rest_framework.throttling import SimpleRateThrottle  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework_api_key.models import APIKey  # noqa: E402
from rest_framework_api_key.permissions import HasAPIKey, KeyParser  # noqa: E402


class BearerParser(KeyParser):
    keyword = "Bearer"


class HasBearerKey(HasAPIKey):
    key_parser = BearerParser()


class PerKey(SimpleRateThrottle):
    """A key is identified by its prefix, which the package stores in plain text."""

    def get_cache_key(self, request, view):
        prefix = BearerParser().get(request).partition(".")[0]
        return self.cache_format % {"scope": self.scope, "ident": prefix}


class PerMinute(PerKey):
    scope = "minute"


class PerHour(PerKey):
    scope = "hour"


class PerDay(PerKey):
    scope = "day"


class Agent(models.Model):
    id = models.UUIDField(primary_key=True)
    name = models.TextField()
    description = models.TextField(null=True)
    category = models.TextField()
    status = models.TextField()
    system_prompt = models.TextField(null=True)
    greeting_message = models.TextField(null=True)
    greeting_mode = models.TextField()
    llm_model = models.TextField()
    voice_provider = models.TextField()
    voice_id = models.TextField(null=True)
    auth_mode = models.TextField()
    ringing_enabled = models.BooleanField()
    background_audio_enabled = models.BooleanField()
    background_audio_volume = models.FloatField()
    noise_suppression_enabled = models.BooleanField()
    widget_enabled = models.BooleanField()
    widget_auth_mode = models.TextField()
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    created_by = models.TextField()

    class Meta:
        app_label = "peers"
        managed = False
        db_table = "agents"
        ordering = ("-created_at", "-id")


class AgentSerializer(ModelSerializer):
    class Meta:
        model = Agent
        fields = "__all__"


class KeyView(APIView):
    permission_classes = (HasBearerKey,)
    throttle_classes = (PerMinute, PerHour, PerDay)


class Agents(KeyView):
    def get(self, request):
        return Response(AgentSerializer(Agent.objects.all()[:50], many=True).data)


class Verify(KeyView):
    def get(self, request):
        return Response({"valid": True})


urlpatterns = [path("v1/agents", Agents.as_view()), path("v1/verify", Verify.as_view())]
application = get_wsgi_application()


def prepare():
    call_command("migrate", verbosity=0)
    print(APIKey.objects.create_key(name="bench")[1])
