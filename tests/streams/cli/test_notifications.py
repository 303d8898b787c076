"""``murmuration notifications``: what it prints of one person, and what it does not of others."""

import msgspec
import pytest

from config.schema import Config
from config.serving import LogConfig
from engine.motifs.state import Motif
from streams.cli.notifications import show_notifications
from streams.events.notifications import NOTIFICATIONS, candidate_of, notification_of, record_of
from streams.events.open_topics import running_log
from streams.log.interface import LogUnavailableError


async def test_it_prints_one_persons_notifications_in_their_order(tmp_path, capsys) -> None:
    config = Config(log=LogConfig(url=f"sqlite:///{tmp_path}/log.db"))
    with pytest.raises(LogUnavailableError):
        await show_notifications(config, 7, follow=False, json=False)
    motifs = [Motif(7, 8, 0, (1, 2, 3)), Motif(9, 8, 0, (1, 2, 3)), Motif(7, 50, 60, (1, 2))]
    async with running_log(config.log) as event_log:
        for at, motif in enumerate(motifs):
            found = candidate_of(motif, motif.actor_ids, place=f"t/{at}", append_ms=1, visited_ms=0)
            await event_log.append(NOTIFICATIONS, [record_of(notification_of(found, 1_760_000_000_000 + at))])
    await show_notifications(config, 7, follow=False, json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == ["1, 2, 3 followed 8", "1, 2 liked or reposted 50 by 60"]
    await show_notifications(config, 9, follow=False, json=True)
    (line,) = capsys.readouterr().out.splitlines()
    assert (msgspec.json.decode(line)["user_id"], msgspec.json.decode(line)["target_id"]) == (9, 8)
    await show_notifications(config, 4, follow=False, json=True)
    assert capsys.readouterr().out == ""
