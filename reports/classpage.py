"""The overview of a class: grades, what was missed most, and a map of groups by claims."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from fractions import Fraction
from statistics import median

from reports.claims import Claim, objective
from reports.classroom import Member, distribution, missed
from reports.markup import (
    SIGNS,
    anchor,
    both,
    claim_words,
    document,
    moment,
    number,
    objective_name,
    text,
    tools,
    verdict_word,
)
from reports.rubric import Rubric
from reports.runfile import Verdict
from reports.score import grade_range

MISSED_SHOWN = 6  # the others are folded away

_LETTERS = {Verdict.PASS: "p", Verdict.FAIL: "f", Verdict.UNPROVEN: "u"}


def overview(members: Sequence[Member], rubric: Rubric, claims: dict[str, Claim], *, lang: str = "") -> str:
    """The page ``index.html`` of a class; the groups' own pages lie in ``groups/`` beside it."""
    title = both("Class overview", "Vue de la classe")
    facts = [
        both(f"{len(members)} groups", f"{len(members)} groupes"),
        both(text(rubric.title.en, 200), text(rubric.title.fr, 200)),
        moment(datetime.now().astimezone().isoformat(timespec="minutes")),
    ]
    jump = both("Skip to the groups", "Aller aux groupes")
    body = (
        f'<a class="lp-jump" href="#lp-groups">{jump}</a><main class="lp-report"><header class="lp-head">'
        f'<div><h1>{title}</h1><p class="lp-facts">{" · ".join(facts)}</p></div>{tools()}</header>'
        f'<div class="lp-cards"><section>{_grades(members, rubric)}</section>'
        f"<section>{_missed(members, claims)}</section></div>"
        f"{_map(members, claims)}{_groups(members)}</main>"
    )
    return document("Labproof: class overview", body, lang=lang, broad=True)


def _grades(members: Sequence[Member], rubric: Rubric) -> str:
    final = [each.grade.final for each in members if each.grade and each.grade.final is not None]
    waiting = sum(each.grade is not None and each.grade.final is None for each in members)
    without = sum(each.grade is None for each in members)
    rows = [
        (both("grades that are final", "notes définitives"), str(len(final))),
        (both("median of these", "leur médiane"), number(median(final)) if final else "–"),
        (both("waiting: points are open", "en attente : points en suspens"), str(waiting)),
        (both("without a run", "sans exécution"), str(without)),
    ]
    table = "".join(
        f'<tr><th scope="row">{name}</th><td class="lp-n">{value}</td></tr>' for name, value in rows
    )
    title = both("Grades", "Notes")
    return f'<h2>{title}</h2><table class="lp-table">{table}</table>{_chart(members, rubric.out_of)}'


def _chart(members: Sequence[Member], out_of: Fraction) -> str:
    bins = distribution(members, out_of)
    most = max((final + open_ for _, final, open_ in bins), default=0) or 1
    width, high = 56, 120
    parts = []
    for place, (low, final, open_) in enumerate(bins):
        x, y = place * width, 24.0 + high
        for count, kind in ((final, "final"), (open_, "unproven")):
            tall = high * count / most
            y -= tall
            if count:
                parts.append(
                    f'<rect class="lp-{kind}" x="{x + 4}" y="{y:.1f}" width="{width - 8}" height="{tall:.1f}"/>'
                )
        if final + open_:
            parts.append(
                f'<text class="lp-value" x="{x + width / 2}" y="{y - 5:.1f}" text-anchor="middle">{final + open_}</text>'
            )
        parts.append(f'<text x="{x + 4}" y="{high + 42}">{low:g}</text>')
    said = both(
        "How many groups have which grade; on top, where points are open, the lowest that it can be.",
        "Combien de groupes ont quelle note ; au-dessus, où des points sont en suspens, la plus basse possible.",
    )
    return (
        f'<figure class="lp-plain"><svg class="lp-chart" viewBox="0 0 {width * len(bins)} {high + 50}" aria-hidden="true">'
        f'{"".join(parts)}<line x1="0" x2="{width * len(bins)}" y1="{high + 24}" y2="{high + 24}"/></svg>'
        f'<figcaption class="lp-soft">{said}</figcaption></figure>'
    )


def _missed(members: Sequence[Member], claims: dict[str, Claim]) -> str:
    rows = []
    for each in missed(members):
        words = claims[each.claim].text if each.claim in claims else ""
        share = 100 * each.failed / (each.examined or 1)
        reason = f'<div class="lp-soft">{text(each.reason, 160)}</div>' if each.reason else ""
        rows.append(
            f'<tr><th scope="row"><span class="lp-id">{text(each.claim, 40)}</span></th>'
            f"<td>{claim_words(each.claim, words)}{reason}</td>"
            f'<td class="lp-n"><b class="lp-ink-fail">{each.failed}</b> / {each.examined}<br>'
            f'<span class="lp-share" style="width:{share * 0.05:.2f}rem"></span></td>'
            f'<td class="lp-n lp-ink-unproven">{each.unproven or "–"}</td></tr>'
        )
    title = both("Missed most", "Les plus manquées")
    if not rows:
        return f"<h2>{title}</h2><p>{both('Nobody missed anything.', 'Personne n’a rien manqué.')}</p>"
    heads = (
        f'<th scope="col">{both("Claim", "Affirmation")}</th><td></td>'
        f'<th scope="col" class="lp-n">{verdict_word(Verdict.FAIL)}</th>'
        f'<th scope="col" class="lp-n">{verdict_word(Verdict.UNPROVEN)}</th>'
    )
    first, more = (
        f'<table class="lp-table"><thead><tr>{heads}</tr></thead><tbody>{"".join(part)}</tbody></table>'
        for part in (rows[:MISSED_SHOWN], rows[MISSED_SHOWN:])
    )
    others = len(rows) - MISSED_SHOWN
    if others > 0:
        fold = both(f"{others} more", f"{others} de plus")
        first += f"<details><summary>{fold}</summary>{more}</details>"
    return f"<h2>{title}</h2>{first}"


def _columns(members: Sequence[Member], claims: dict[str, Claim]) -> list[tuple[str, str, list[str]]]:
    """The claims that any run knows, by objective, in the list's order."""
    seen = {claim_id for member in members for claim_id in member.verdicts}
    groups: dict[tuple[int, str, str], list[str]] = {}
    for claim_id in [*(each for each in claims if each in seen), *sorted(seen - set(claims))]:
        about = objective(claims[claim_id].objective if claim_id in claims else 999)
        groups.setdefault((about.order, about.key, about.name), []).append(claim_id)
    return [(key, name, ids) for (_, key, name), ids in sorted(groups.items())]


def _map(members: Sequence[Member], claims: dict[str, Claim]) -> str:
    columns = _columns(members, claims)
    firsts = {ids[0] for _, _, ids in columns}
    over = "".join(
        f'<th scope="colgroup" colspan="{len(ids)}" class="lp-group">{key} {objective_name(name)}</th>'
        for key, name, ids in columns
    )
    ids = [claim_id for _, _, group in columns for claim_id in group]
    names = "".join(
        f'<th scope="col"{" class=lp-first" if each in firsts else ""}>'
        f'<span class="lp-id" title="{text(claims[each].text if each in claims else "", 200)}">{text(each, 40)}</span></th>'
        for each in ids
    )
    rows = "".join(_row(member, ids, firsts) for member in members)
    title = both("Groups by claims", "Groupes et affirmations")
    key = " · ".join(f"{SIGNS[v or 'not run']} {verdict_word(v)}" for v in (*Verdict, None))
    hint = both(
        "A cell leads to its evidence; with the keyboard, the arrows move.",
        "Une case mène à sa preuve ; au clavier, les flèches déplacent.",
    )
    find = both("Search a group", "Chercher un groupe")
    grade = both("Grade", "Note")
    return (
        f'<section class="lp-mapped"><h2 id="lp-map">{title}</h2><p class="lp-soft">{key}. {hint}</p>'
        f'<form class="lp-filters" hidden><label>{find} <input type="search" data-find autocomplete="off"></label>'
        f'<p class="lp-count" role="status"></p></form>'
        f'<div class="lp-scroll" role="region" aria-labelledby="lp-map" tabindex="0">'
        f'<table class="lp-map" style="--claims:{len(ids)}">'
        f'<colgroup><col class="lp-of-name"><col class="lp-of-sum"><col span="{len(ids)}"></colgroup><thead>'
        f'<tr><td></td><td></td>{over}</tr><tr class="lp-names"><th scope="col">{both("Group", "Groupe")}</th>'
        f'<th scope="col">{grade}</th>{names}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _row(member: Member, ids: Sequence[str], firsts: set[str]) -> str:
    page = f"groups/{member.slug}.html"
    name = text(member.name, 100)
    head = f'<a href="{page}">{name}</a>' if member.grade else name
    mark = grade_range(member.grade) if member.grade else "–"
    return (
        f'<tr class="lp-row"><th scope="row">{head}</th><td class="lp-sum">{mark}</td>'
        f"{''.join(_cells(member, ids, firsts, page))}</tr>"
    )


def _cells(member: Member, ids: Sequence[str], firsts: set[str], page: str) -> Iterator[str]:
    for claim_id in ids:
        first = " class=lp-first" if claim_id in firsts else ""
        if claim_id not in member.verdicts:
            yield f"<td{first}></td>"
            continue
        verdict = member.verdicts[claim_id]
        reason = member.reasons.get(claim_id, "")
        about = f' title="{text(reason, 120)}"' if reason else ""
        kind = _LETTERS.get(Verdict(verdict), "s") if verdict else "s"
        yield (
            f'<td{first}><a class={kind} href="{page}#{anchor(claim_id)}"{about}>{SIGNS[verdict or "not run"]}</a></td>'
        )


def _groups(members: Sequence[Member]) -> str:
    rows = []
    for each in members:
        name = text(each.name, 100)
        if each.grade is None:
            rows.append(
                f'<tr><th scope="row">{name}</th><td class="lp-n" data-k="-1">–</td><td class="lp-n">–</td>'
                f'<td class="lp-n">–</td><td>{text(each.problem, 300)}</td></tr>'
            )
            continue
        grade = each.grade
        flags = ", ".join(text(p.worth.claim, 40) for p in grade.flagged)
        rows.append(
            f'<tr><th scope="row"><a href="groups/{each.slug}.html">{name}</a></th>'
            f'<td class="lp-n" data-k="{float(grade.lowest or 0):.4f}">{grade_range(grade)}</td>'
            f'<td class="lp-n" data-k="{float(grade.sum("earned")):.4f}">{number(grade.sum("earned"))} / '
            f"{number(grade.counted)}</td>"
            f'<td class="lp-n" data-k="{float(grade.sum("open")):.4f}">{number(grade.sum("open"))}</td>'
            f"<td>{flags}</td></tr>"
        )
    heads = "".join(
        f'<th scope="col"{kind}><button type="button">{words}</button></th>'
        for kind, words in (
            ("", both("Group", "Groupe")),
            (' class="lp-n"', both("Grade", "Note")),
            (' class="lp-n"', "Points"),
            (' class="lp-n"', both("Open", "En suspens")),
            ("", both("For the instructor to decide", "À décider par l'enseignant")),
        )
    )
    title = both("Groups", "Groupes")
    return (
        f'<h2 id="lp-groups" tabindex="-1">{title}</h2><table class="lp-table lp-sorts"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )
