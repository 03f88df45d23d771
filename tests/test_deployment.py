"""What docs/deploy/ gives: a proxy, units of systemd, and restarts that lose nothing."""

import asyncio
import contextlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Origin

from tests.load.raters import Found, Rater, all_rate, lost_and_double, make_study, served

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
NAME = "rate.example.org"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("deployed"), frames=4, side=64)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def proxy(folder: Path, upstream: int, port: int, plain: int) -> Iterator[ssl.SSLContext]:
    """Start nginx with the documented site: other ports and certificate, all else as it is."""
    found = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if found is None or shutil.which("openssl") is None:
        pytest.skip("nginx or openssl is not installed (Debian: apt-get install nginx openssl)")
    certificate, key = folder / "fullchain.pem", folder / "privkey.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-days", "2", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
         "-keyout", key, "-out", certificate], check=True, capture_output=True,
    )  # fmt: skip
    site = (DEPLOY / "nginx.conf").read_text()
    changes = {
        "127.0.0.1:8866": f"127.0.0.1:{upstream}",
        "listen 443": f"listen 127.0.0.1:{port}",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        f"/etc/letsencrypt/live/{NAME}": str(folder),
    }
    for before, after in changes.items():
        assert before in site
        site = site.replace(before, after)
    site = re.sub(r".*listen \[::\].*\n", "", site)  # not every machine has IPv6
    places = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "main.conf").write_text(
        f"pid {folder}/pid;\nerror_log {folder}/error.log;\ndaemon off;\n"
        f"events {{}}\nhttp {{\n{places}{site}\n}}\n"
    )
    command = [found, "-p", str(folder), "-c", str(folder / "main.conf")]
    subprocess.run([*command, "-t"], check=True, capture_output=True)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.05)
        yield ssl.create_default_context(cafile=str(certificate))
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def behind(
    study: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int, ssl.SSLContext]]:
    """The rating page behind nginx, the port of its plain HTTP, and which certificate to trust."""
    port, plain, upstream = free_port(), free_port(), free_port()
    folder = tmp_path_factory.mktemp("nginx")
    options = ("--port", str(upstream), "--address", f"https://{NAME}:{port}")
    with proxy(folder, upstream, port, plain) as trusted, served(study, *options) as (_, page):
        yield page, plain, trusted


def fetch(page: str, path: str, trusted: ssl.SSLContext, **headers: str) -> httpx.Response:
    port = httpx.URL(page).port
    with httpx.Client(verify=trusted, trust_env=False) as client:
        return client.get(
            f"https://127.0.0.1:{port}{path}",
            headers={"host": f"{NAME}:{port}"} | headers,
            extensions={"sni_hostname": NAME},
        )


@contextlib.asynccontextmanager
async def visit(
    page: str, trusted: ssl.SSLContext, origin: str, **headers: str
) -> AsyncIterator[ClientConnection]:
    """Open a websocket by one thread: Python's TLS is not safe where one reads and one writes."""
    port = httpx.URL(page).port
    async with connect(
        f"wss://{NAME}:{port}/rate/socket",
        host="127.0.0.1",
        port=port,
        ssl=trusted,
        origin=Origin(origin),
        additional_headers=headers,
        proxy=None,
    ) as visitor:
        yield visitor


def test_people_rate_through_the_documented_proxy(
    behind: tuple[str, int, ssl.SSLContext], study: Path
) -> None:
    page, plain, trusted = behind
    assert page.startswith(f"https://{NAME}:")
    found = asyncio.run(all_rate(page, 2, pause=(0, 0), clip=0, arriving=0, trusted=trusted))
    assert len(found.stored) == 2 * 18
    assert not found.problems
    assert lost_and_double(found, study.parent / "out" / "ratings.sqlite") == (0, 0)
    moved = httpx.get(f"http://127.0.0.1:{plain}/rate", headers={"host": NAME}, trust_env=False)
    assert (moved.status_code, moved.headers["location"]) == (301, f"https://{NAME}/rate")


def test_the_proxy_keeps_what_the_server_checks(behind: tuple[str, int, ssl.SSLContext]) -> None:
    page, _, trusted = behind
    parts = httpx.URL(page)
    assert fetch(page, parts.path, trusted).status_code == 200
    assert fetch(page, parts.path, trusted, host=f"evil.example:{parts.port}").status_code == 421

    async def come_from_elsewhere() -> None:
        async with visit(page, trusted, "https://evil.example"):
            pass

    with pytest.raises(InvalidStatus, match="403"):
        asyncio.run(come_from_elsewhere())


def test_behind_the_proxy_visitors_are_told_apart_by_an_address_that_they_cannot_choose(
    behind: tuple[str, int, ssl.SSLContext],
) -> None:
    page, _, trusted = behind
    origin = page.removesuffix(httpx.URL(page).path)

    async def guess(number: int) -> str:
        claimed = {"X-Forwarded-For": f"192.0.2.{number}"}
        async with visit(page, trusted, origin, **claimed) as visitor:
            await visitor.send('{"verb": "enter", "key": "guessed-guessed-guessed1"}')
            return str(await visitor.recv())

    async def guess_often() -> list[str]:
        return [await guess(number) for number in range(40)]

    said = asyncio.run(guess_often())
    assert "link_wrong" in said[0]
    assert "too_many" in said[-1]


def test_no_answer_is_lost_or_doubled_when_the_server_is_killed_between_answers(
    study: Path, tmp_path: Path
) -> None:
    port, found = str(free_port()), Found()
    store = tmp_path / "ratings.sqlite"
    options = ("--port", port, "--store", str(store))

    async def rate_through_two_ends() -> None:
        with contextlib.ExitStack() as running:
            server, page = running.enter_context(served(study, *options))
            raters = [Rater(page, found, (0, 0.1), 0.01, seed) for seed in range(6)]
            working = asyncio.gather(*(rater.rate() for rater in raters))
            for least in (20, 60):
                while len(found.stored) < least or not all(rater.joined for rater in raters):
                    await asyncio.sleep(0.01)
                    assert not working.done()
                server.kill()
                server, _ = await asyncio.to_thread(running.enter_context, served(study, *options))
            await working

    asyncio.run(asyncio.wait_for(rate_through_two_ends(), 300))
    assert sum(count for problem, count in found.problems.items() if "socket" in problem) >= 6
    assert len(found.given) == 6 * 18
    assert lost_and_double(found, store) == (0, 0)


@pytest.mark.parametrize("unit", ["studykit.service", "studykit-backup.service",
                                  "studykit-backup.timer"])  # fmt: skip
def test_systemd_takes_the_units(unit: str, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian: apt-get install systemd)")
    for path in DEPLOY.glob("studykit*.*"):
        text = path.read_text().replace("/opt/studykit/bin/studykit", sys.executable)
        (tmp_path / path.name).write_text(text)
    checked = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / unit], capture_output=True, text=True
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_files_name_commands_and_options_that_there_are() -> None:
    from studykit.cli import rate, serve

    backup = (DEPLOY / "studykit-backup.service").read_text()
    assert "studykit rate backup study.yaml --out results" in backup
    assert "backup" in rate.commands
    options = {option for parameter in serve.params for option in parameter.opts}
    for name in ("studykit.service", "Dockerfile", "nginx.conf"):
        line = " ".join(
            line for line in (DEPLOY / name).read_text().splitlines() if "studykit" in line
        )
        used = set(re.findall(r"--(?:out|address|host|port|store)\b", line))
        assert used and used <= options, name
