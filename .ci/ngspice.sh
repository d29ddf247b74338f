#!/bin/sh
# Install ngspice where this can be done without asking; otherwise say the one line to type. Never fails:
# everything but the SPICE steps works without it.
if command -v ngspice >/dev/null 2>&1; then
    exit 0
fi
packages="ngspice libngspice0"
if command -v apt-get >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ]; then
        become=""
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        become="sudo -n"
    else
        echo "ngspice is not installed; the SPICE steps are left out. To have them: sudo apt-get install $packages"
        exit 0
    fi
    echo "installing $packages"
    # shellcheck disable=SC2086
    $become apt-get update -qq && DEBIAN_FRONTEND=noninteractive $become apt-get install -y -qq $packages >/dev/null ||
        echo "could not install ngspice; the SPICE steps are left out. To try by hand: apt-get install $packages"
else
    echo "ngspice is not installed; the SPICE steps are left out. To have them on macOS: brew install ngspice libngspice"
fi
exit 0
