#!/usr/bin/env bash
# Usage: scripts/demo.sh [option of `tessera train mnist`]...
#
# Installs what is missing, builds, and trains a convolutional network on MNIST on every device of this machine, from the
# same weights and in the same order. Ends in a table that compares accuracy, loss and speed.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

case ${1:-} in -h | --help) usage; exit ;; esac

scripts/setup.sh
use_caches
use_drivers

configure release release
build release tessera_command >build/build.log 2>&1 || { cat build/build.log >&2; die "the build failed"; }

tessera=build/release/bin/tessera
"$tessera" devices
exec "$tessera" train mnist --model cnn --device all --budget 90 "$@"
