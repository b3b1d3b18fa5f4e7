"""Every route of hal0 in one table: its path, who may use it, what it takes and what it answers."""

from typing import Final

from hal0.api import events, images, jobs, models, openai, openapi, page, slots, system
from hal0.api.route import Route
from hal0.vocab import Access
from hal0.wire.base import NothingView
from hal0.wire.events import EventView
from hal0.wire.jobs import JobsView, JobView
from hal0.wire.models import DemoView, EntriesView
from hal0.wire.slots import FailureView, LoadRequest, LogsView, SlotsView, SlotView, SwapRequest, UnloadRequest
from hal0.wire.system import HealthView, ImageRequest, ImagesView, ImageView, StatusView

_OPEN, _READ, _ADMIN = Access.OPEN, Access.READ, Access.ADMIN
_SLOT: Final = "/api/slots/{name}"
_IMAGE: Final = "/api/images/{key}"

ROUTES: Final = (
    *openai.ROUTES,
    Route("GET", "/api/health", system.health, _OPEN, "Say whether hal0 works.", response=HealthView),
    Route("GET", "/api/status", system.status, _READ, "The machine at a glance.", response=StatusView),
    Route("GET", "/api/events", events.events, _READ, "What is, then every change.", response=EventView),
    Route("GET", "/api/slots", slots.list_slots, _READ, "List the slots.", response=SlotsView),
    Route("GET", _SLOT, slots.get_slot, _READ, "Show one slot.", response=SlotView),
    Route("POST", f"{_SLOT}/load", slots.load, _ADMIN, "Load a slot.", LoadRequest, JobView),
    Route("POST", f"{_SLOT}/unload", slots.unload, _ADMIN, "Drain a slot, then stop it.", UnloadRequest, JobView),
    Route("POST", f"{_SLOT}/restart", slots.restart, _ADMIN, "Unload, then load again.", LoadRequest, JobView),
    Route("POST", f"{_SLOT}/swap", slots.swap, _ADMIN, "Give a slot another model.", SwapRequest, JobView),
    Route("POST", f"{_SLOT}/reset", slots.reset, _ADMIN, "Forget a failure and go on.", NothingView, JobView),
    Route("GET", f"{_SLOT}/logs", slots.logs, _READ, "What a slot's engine wrote.", response=LogsView),
    Route("GET", f"{_SLOT}/failure", slots.failure, _READ, "Why a slot failed.", response=FailureView),
    Route("GET", "/api/jobs", jobs.list_jobs, _READ, "List the jobs, newest first.", response=JobsView),
    Route("GET", "/api/jobs/{id}", jobs.get_job, _READ, "Show one job, or wait for it.", response=JobView),
    Route("DELETE", "/api/jobs/{id}", jobs.cancel_job, _ADMIN, "Give up a job.", response=JobView),
    Route("GET", "/api/images", images.list_images, _READ, "List the runtime images.", response=ImagesView),
    Route("POST", f"{_IMAGE}/build", images.build, _ADMIN, "Build an image here.", ImageRequest, JobView),
    Route("POST", f"{_IMAGE}/pull", images.pull, _ADMIN, "Pull an image by digest.", ImageRequest, JobView),
    Route("POST", f"{_IMAGE}/verify", images.verify, _ADMIN, "Check an image.", NothingView, ImageView),
    Route("GET", "/api/models", models.list_models, _READ, "List the models on disk.", response=EntriesView),
    Route("POST", "/api/models/scan", models.scan, _ADMIN, "Look at the disk again.", NothingView, EntriesView),
    Route("POST", "/api/models/demo", models.write_demo, _ADMIN, "Write the demo model.", NothingView, DemoView),
    Route("GET", "/api/openapi.json", openapi.show, _READ, "This API, described."),
    Route("GET", "/", page.show, _OPEN, "A page that names the paths."),
)
