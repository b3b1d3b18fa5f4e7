"""Every route of hal0 in one table: its path, who may use it, what it takes and what it answers."""

from typing import Final

from hal0.api import (
    capabilities,
    catalog,
    events,
    fit,
    hardware,
    history,
    images,
    jobs,
    keys,
    metrics,
    models,
    openai,
    openapi,
    page,
    profiles,
    providers,
    pulls,
    quants,
    search,
    session,
    setup,
    slots,
    system,
    upstreams,
    usage,
)
from hal0.api.route import Handler, Route
from hal0.vocab import Access
from hal0.wire.base import NothingView, View
from hal0.wire.capabilities import CardsView, CardView, PlanView, SelectRequest, TrialView
from hal0.wire.catalog import CatalogView
from hal0.wire.events import EventView
from hal0.wire.fit import FitView, QuantsView
from hal0.wire.hardware import HardwareView, ProbeView
from hal0.wire.history import ActivitiesView, DecisionsView, DecisionView, ExplainRequest, ExplainView
from hal0.wire.jobs import JobsView, JobView
from hal0.wire.keys import (
    CreateKeyRequest,
    KeysView,
    KeyView,
    LinkView,
    MadeKeyView,
    RotateKeyRequest,
    SessionView,
    SignInRequest,
)
from hal0.wire.models import (
    AliasRequest,
    BindRequest,
    DefaultsRequest,
    DemoView,
    EntriesView,
    ModelGoneView,
    SearchView,
    UsageView,
    WholeEntryView,
)
from hal0.wire.profiles import (
    ProfileChange,
    ProfileGoneView,
    ProfilesView,
    ProfileView,
    ProvidersView,
    ProviderView,
)
from hal0.wire.pulls import LookRequest, LooksView, PullRequest, PullsView, PullView
from hal0.wire.resolved import ResolvedView
from hal0.wire.setup import SetupRequest, SetupView
from hal0.wire.slots import (
    CreateRequest,
    DeletedView,
    DraftView,
    FailureView,
    LoadRequest,
    LogsView,
    SlotMetricsView,
    SlotsView,
    SlotView,
    SwapRequest,
    UnloadRequest,
)
from hal0.wire.system import HealthView, ImageRequest, ImagesView, ImageView, PrunedView, StatusView
from hal0.wire.upstreams import (
    UpstreamChange,
    UpstreamGoneView,
    UpstreamModelsView,
    UpstreamRequest,
    UpstreamsView,
    UpstreamTestView,
    UpstreamView,
)

_SLOT: Final = "/api/slots/{name}"
_CHILD: Final = "/api/capabilities/{card}/{child}"
_IMAGE: Final = "/api/images/{key}"
_MODEL: Final = "/api/models/{id}"
_PULL: Final = "/api/pulls/{id}"
_UPSTREAM: Final = "/api/upstreams/{name}"
_PROFILE: Final = "/api/profiles/{name}"
_WAIT: Final = ("wait", "timeout_s")
_FIT: Final = ("model", "slot", "context", "parallel", "with")


def _show(path: str, handler: Handler, summary: str, view: type[View], *query: str) -> Route:
    """What the operator may look at."""
    return Route("GET", path, handler, Access.READ, summary, response=view, query=query)


def _do(path: str, handler: Handler, summary: str, request: type[View], view: type[View]) -> Route:
    """What the operator may change; work that takes its time answers with a job, for which the caller may wait."""
    query = _WAIT if view is JobView else ()
    return Route("POST", path, handler, Access.ADMIN, summary, request, view, query=query)


ROUTES: Final = (
    *openai.ROUTES,
    Route("GET", "/api/health", system.health, Access.OPEN, "Say whether hal0 works.", response=HealthView),
    Route("GET", "/health", system.health, Access.OPEN, "The same, for llama-server's clients.", response=HealthView),
    _show("/api/status", system.status, "The machine at a glance.", StatusView),
    _show("/api/events", events.events, "What is, then every change.", EventView, "after", "topics"),
    Route(
        "GET",
        "/api/decisions",
        history.list_decisions,
        Access.OWN,
        "Requests and why they went where, newest first.",
        response=DecisionsView,
        query=history.FILTERS,
    ),
    Route("GET", "/api/decisions/{id}", history.get_decision, Access.OWN, "One request.", response=DecisionView),
    Route(
        "POST",
        "/api/decisions/explain",
        history.explain,
        Access.READ,
        "Say where a request would go.",
        ExplainRequest,
        ExplainView,
    ),
    _show(
        "/api/activity",
        history.list_activity,
        "What happened, newest first.",
        ActivitiesView,
        *history.ACTIVITY_FILTERS,
    ),
    _show("/api/slots", slots.list_slots, "List the slots.", SlotsView),
    _show(_SLOT, slots.get_slot, "Show one slot.", SlotView),
    _do("/api/slots", slots.create, "Make a slot.", CreateRequest, SlotView),
    _do("/api/slots/draft", slots.draft, "Check a slot without making it.", CreateRequest, DraftView),
    Route("DELETE", _SLOT, slots.delete, Access.ADMIN, "Unload a slot and delete it.", response=DeletedView),
    _do(f"{_SLOT}/load", slots.load, "Load a slot.", LoadRequest, JobView),
    _do(f"{_SLOT}/unload", slots.unload, "Drain a slot, then stop it.", UnloadRequest, JobView),
    _do(f"{_SLOT}/restart", slots.restart, "Unload, then load again.", LoadRequest, JobView),
    _do(f"{_SLOT}/swap", slots.swap, "Give a slot another model.", SwapRequest, JobView),
    _do(f"{_SLOT}/reset", slots.reset, "Forget a failure and go on.", NothingView, JobView),
    _do(f"{_SLOT}/pin", slots.pin, "Keep a slot loaded.", NothingView, SlotView),
    _do(f"{_SLOT}/unpin", slots.unpin, "Let a slot make room again.", NothingView, SlotView),
    _show(f"{_SLOT}/metrics", slots.metrics, "What a slot does and has done.", SlotMetricsView),
    _show(f"{_SLOT}/events", events.of_slot, "A slot and its jobs, then every change.", EventView, "after"),
    _show(f"{_SLOT}/resolved", slots.resolved, "How a slot is started, and who said so.", ResolvedView),
    _show(f"{_SLOT}/logs", slots.logs, "What a slot's engine wrote.", LogsView, "tail", "follow"),
    _show(f"{_SLOT}/failure", slots.failure, "Why a slot failed.", FailureView),
    _show("/api/jobs", jobs.list_jobs, "List the jobs, newest first.", JobsView),
    _show("/api/jobs/{id}", jobs.get_job, "Show one job, or wait for it.", JobView, *_WAIT),
    Route("DELETE", "/api/jobs/{id}", jobs.cancel_job, Access.ADMIN, "Give up a job.", response=JobView),
    _show("/api/capabilities", capabilities.list_cards, "List the capability cards.", CardsView),
    _show("/api/capabilities/{card}", capabilities.get_card, "Show one card.", CardView),
    _do(_CHILD, capabilities.select, "Turn a card's row on or off.", SelectRequest, JobView),
    _do(f"{_CHILD}/plan", capabilities.plan, "Say what turning it on would do.", SelectRequest, PlanView),
    Route(
        "POST",
        f"{_CHILD}/test",
        capabilities.test,
        Access.ADMIN,
        "Send it one small real request.",
        NothingView,
        TrialView,
        query=("timeout_s",),
    ),
    _show("/api/setup", setup.show, "What this machine should have.", SetupView),
    _do("/api/setup", setup.start, "Fetch and load it.", SetupRequest, JobView),
    _show("/api/images", images.list_images, "List the runtime images.", ImagesView),
    _do(f"{_IMAGE}/build", images.build, "Build an image here.", ImageRequest, JobView),
    _do(f"{_IMAGE}/pull", images.pull, "Pull an image by digest.", ImageRequest, JobView),
    _do("/api/images/prune", images.prune, "Remove images that nothing starts from.", NothingView, PrunedView),
    _do(f"{_IMAGE}/verify", images.verify, "Check an image.", NothingView, ImageView),
    _show("/api/hardware", hardware.show, "What this machine has and does.", HardwareView),
    _do("/api/hardware/probe", hardware.probe, "Look again, and say what has changed.", NothingView, ProbeView),
    _show("/api/catalog", catalog.show, "List the models worth having.", CatalogView),
    _show("/api/models", models.list_models, "List the models on disk.", EntriesView),
    _do("/api/models/scan", models.scan, "Look at the disk again.", NothingView, EntriesView),
    _do("/api/models/demo", models.write_demo, "Write the demo model.", NothingView, DemoView),
    _do("/api/models/alias", models.alias, "Give a model one more name.", AliasRequest, EntriesView),
    _do("/api/models/bind", models.bind, "Say who answers for a model.", BindRequest, EntriesView),
    _show("/api/models/fit", fit.show, "Say whether a model would fit.", FitView, *_FIT),
    _show("/api/catalog/search", search.show, "Find models of the catalog and the hub.", SearchView, "q"),
    _show("/api/catalog/quants", quants.show, "List a model's quantisations.", QuantsView, "model", "slot", "context"),
    _show("/api/disk", usage.show, "Show what models take on disk, and what keeps them.", UsageView),
    _show(_MODEL, models.get_model, "Show one model.", WholeEntryView),
    _do(f"{_MODEL}/verify", models.verify, "Check that its files are what came.", NothingView, JobView),
    Route("PATCH", _MODEL, models.change, Access.ADMIN, "Change a model's defaults.", DefaultsRequest, WholeEntryView),
    Route("DELETE", _MODEL, models.delete, Access.ADMIN, "Delete a model's files.", response=ModelGoneView),
    _show("/api/pulls", pulls.list_pulls, "List the downloads.", PullsView),
    _show(_PULL, pulls.get_pull, "Show one download.", PullView),
    _do("/api/pulls", pulls.start, "Download a model.", PullRequest, JobView),
    _do("/api/pulls/look", pulls.look, "Look for models in a folder here.", LookRequest, LooksView),
    _do(f"{_PULL}/pause", pulls.pause, "Stop a download, and keep what has come.", NothingView, PullView),
    _do(f"{_PULL}/resume", pulls.resume, "Go on with a download.", NothingView, JobView),
    Route("DELETE", _PULL, pulls.cancel, Access.ADMIN, "Give up a download.", response=JobView),
    _show("/api/upstreams", upstreams.list_upstreams, "List the upstreams.", UpstreamsView),
    _show(_UPSTREAM, upstreams.get_upstream, "Show one upstream.", UpstreamView),
    _show(f"{_UPSTREAM}/models", upstreams.models, "What an upstream offers.", UpstreamModelsView),
    _do("/api/upstreams", upstreams.add, "Add an upstream.", UpstreamRequest, UpstreamView),
    Route("PATCH", _UPSTREAM, upstreams.change, Access.ADMIN, "Change an upstream.", UpstreamChange, UpstreamView),
    Route("DELETE", _UPSTREAM, upstreams.delete, Access.ADMIN, "Delete an upstream.", response=UpstreamGoneView),
    _do(f"{_UPSTREAM}/refresh", upstreams.refresh, "Ask for its models now.", NothingView, UpstreamView),
    _do(f"{_UPSTREAM}/test", upstreams.test, "Find out whether it answers.", NothingView, UpstreamTestView),
    _show("/api/profiles", profiles.list_profiles, "List the profiles.", ProfilesView),
    _show(_PROFILE, profiles.get_profile, "Show one profile.", ProfileView),
    Route("PUT", _PROFILE, profiles.put, Access.ADMIN, "Set a profile.", ProfileChange, ProfileView),
    Route("DELETE", _PROFILE, profiles.delete, Access.ADMIN, "Delete a profile.", response=ProfileGoneView),
    _show("/api/providers", providers.list_providers, "List the engines.", ProvidersView),
    _show("/api/providers/{name}", providers.get_provider, "Show one engine.", ProviderView),
    _show("/api/keys", keys.list_keys, "List the keys, without their secrets.", KeysView),
    _do("/api/keys", keys.create, "Make a key.", CreateKeyRequest, MadeKeyView),
    _do("/api/keys/{id}/rotate", keys.rotate, "Give a key a new secret.", RotateKeyRequest, MadeKeyView),
    Route("DELETE", "/api/keys/{id}", keys.revoke, Access.ADMIN, "Revoke a key.", response=KeyView),
    _show("/api/session", session.show, "Say who asks.", SessionView),
    Route("POST", "/api/session", session.sign_in, Access.OPEN, "Sign in.", SignInRequest, SessionView),
    Route("DELETE", "/api/session", session.sign_out, Access.ADMIN, "Sign out.", response=NothingView),
    _do("/api/session/link", session.make_link, "Make a sign-in link.", NothingView, LinkView),
    Route("GET", "/metrics", metrics.show, Access.READ, "Everything counted, for Prometheus."),
    Route("GET", "/api/openapi.json", openapi.show, Access.READ, "This API, described."),
    Route("GET", "/", page.show, Access.OPEN, "A page that names the paths."),
    Route("GET", "/sign-in/{word}", session.sign_in_page, Access.OPEN, "A button that signs in."),
    Route("GET", "/assets/{file}", page.asset, Access.OPEN, "What the page needs."),
)
