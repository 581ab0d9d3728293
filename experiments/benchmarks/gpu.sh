#!/usr/bin/env bash
# Measures jaxmoe and rejax on the GPU of this machine: gpu.sh ppo, replay or train; `--help` lists what gpu.py takes.
#
# The machine needs Python and JAX for its card, and no network: what else is missing lies as wheels in $WHEELS/jaxmoe and,
# because rejax needs an older gymnax, in $WHEELS/rejax. Without the latter jaxmoe is measured alone.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
sites=$(mktemp -d)
trap 'rm -rf "$sites"' EXIT
for peer in jaxmoe rejax; do
  wheels=("${WHEELS:-$here/wheels}/$peer"/*.whl)
  if [ -e "${wheels[0]}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$sites/$peer" "${wheels[@]}"
  fi
done
"$python" "$here/gpu.py" --sites "$sites" "$@"
