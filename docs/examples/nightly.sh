#!/bin/sh
# One night: proves the lab, then tells what changed since the last night and what flaps.
#
#   docs/examples/nightly.sh LAB REPORTS [PYTEST ARGUMENTS]
#
# LAB is a lab file or the name of one in labs/; REPORTS the folder that keeps the runs. The exit status is that of the
# suites: 0 only if every check passed. REPORTS/report.html, junit.xml, changes.txt, changes.html and trend.html are
# the last night's; runs older than LABPROOF_KEEP_DAYS (90) are removed.
set -u
lab=${1:?usage: nightly.sh LAB REPORTS [PYTEST ARGUMENTS]}
reports=${2:?usage: nightly.sh LAB REPORTS [PYTEST ARGUMENTS]}
shift 2
mkdir -p "$reports" && reports=$(cd "$reports" && pwd) || exit 2
[ ! -f "$lab" ] || lab=$(cd "$(dirname "$lab")" && pwd)/$(basename "$lab")
cd "$(dirname "$0")/../.." || exit 2

exec 9>"$reports/.nightly"
flock -n 9 || { echo 'labproof: the night before still runs; this one is left out' >&2; exit 3; }

before=$(readlink -f "$reports/latest" 2>/dev/null) || before=
make --no-print-directory conformance LAB="$lab" PYTEST_ARGS="-q --report-dir '$reports' $*"
status=$?
after=$(readlink -f "$reports/latest" 2>/dev/null) || after=
if [ -z "$after" ] || [ "$after" = "$before" ] || [ ! -f "$after/run.json" ]; then
    echo 'labproof: no run came of it' >&2
    [ "$status" -ne 0 ] || status=1
    exit "$status"
fi

for each in report.html junit.xml; do
    [ ! -f "$after/$each" ] || cp "$after/$each" "$reports/$each"
done
if [ -n "$before" ] && [ -f "$before/run.json" ]; then
    .venv/bin/python -m reports compare "$before" "$after" -o "$reports/changes.html" >"$reports/changes.txt"
    grep -v '^report: ' "$reports/changes.txt"
fi
.venv/bin/python -m reports trend "$reports" -o "$reports/trend.html"
find "$reports" -mindepth 1 -maxdepth 1 -type d -name '20??????-??????-*' \
    -mtime "+${LABPROOF_KEEP_DAYS:-90}" -exec rm -rf {} +
exit "$status"
