"""`hal0ctl image`: what is built, and what is removed."""

from hal0.wire.jobs import JobView
from hal0.wire.system import KeptImageView, PrunedView, RemovedImageView
from tests.fakes.api_server import ApiServer
from tests.fakes.api_views import image_view, progress
from tests.unit.cli.conftest import Run


def test_image_build_shows_its_progress(api: ApiServer, hal0ctl: Run) -> None:
    def script(server: ApiServer, job: JobView) -> None:
        server.listened_to()
        server.set_job(job.id, progress=progress(0.5, "unpacking"))
        server.end_job(job.id)

    api.images["cpu"], api.script = image_view(), script
    ran = hal0ctl("image", "build", "cpu")
    assert ran.code == 0
    assert "Build  50%   unpacking" in ran.err
    assert "image cpu is here" in ran.err
    assert ("POST", "/api/images/cpu/build", {"force": False}) in api.requests
    assert "build" in hal0ctl("image", "list").out


def test_image_prune_says_what_is_gone_and_why_something_stays(api: ApiServer, hal0ctl: Run) -> None:
    gone = [RemovedImageView(id=letter * 64, size_bytes=69_000_000) for letter in "ab"]
    kept = KeptImageView(id="c" * 64, reason="cannot remove image cccc: container d00d uses it")
    api.pruned = PrunedView(removed=gone, kept=[kept])
    assert "give -y to go on" in hal0ctl("image", "prune").err
    assert api.requests == []
    ran = hal0ctl("image", "prune", "-y")
    assert (ran.code, ran.out) == (0, "2 images removed, 138.0 MB\n")
    assert kept.reason in ran.err


def test_without_a_key_every_image_is_built_that_can_be_and_is_not_large(api: ApiServer, hal0ctl: Run) -> None:
    keys = {"cpu": True, "cuda": False, "vulkan": True, "f5-tts": True}
    api.images = {key: image_view(key, buildable=can, on_request=key == "f5-tts") for key, can in keys.items()}
    assert hal0ctl("image", "build").code == 0
    posted = [path for method, path, _ in api.requests if method == "POST"]
    assert posted == ["/api/images/cpu/build", "/api/images/vulkan/build"]
