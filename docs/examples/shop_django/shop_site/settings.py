"""Settings of the project. Those of the queue are in ``TASKS``."""

from pathlib import Path

FOLDER = Path(__file__).parents[1]

DEBUG = True
SECRET_KEY = "of an example"  # noqa: S105 - guards nothing
ROOT_URLCONF = "shop_site.urls"
ASGI_APPLICATION = "shop_site.asgi.application"
STATIC_URL = "static/"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "queuekit_django",
    "store",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
MAILERS = {"default": {"BACKEND": "django.core.mail.backends.console.EmailBackend"}}
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "shop.sqlite3"}}
TASKS = {
    "default": {
        "BACKEND": "queuekit_django.QueuekitBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {"broker": f"sqlite:///{FOLDER}/jobs.db", "on_commit": True},
    }
}
