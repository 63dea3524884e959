#!/usr/bin/env bash
# Runs the tests against other people's programs: `npm run test:peers`. Makes their Python environment in .venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
requirements=test/peers/requirements.txt

if ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq python3-venv >&2
  else
    echo 'test:peers needs python3 with venv: install it (Debian: apt-get install python3-venv)' >&2
    exit 1
  fi
fi

# The copy of the requirements is written last: without it, or with another, the environment is made anew.
if ! cmp -s "$requirements" .venv/requirements.txt; then
  rm -rf .venv
  python3 -m venv .venv
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: -r "$requirements"
  cp "$requirements" .venv/requirements.txt
fi

export PATH="$PWD/node_modules/.bin:$PATH"
# tap's own options may follow, such as --reporter=terse. Named here, because `exclude` leaves them out of npm test.
exec tap --exclude=nothing --timeout=600 --jobs=1 "$@" test/peers/*.peer.test.ts
