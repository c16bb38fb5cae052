#!/bin/sh
# validated.sh PROGRAM: PROGRAM (test_every_kernel) on the first Vulkan device under the validation layer, with its core and synchronization
# checks. A message ends it. Exit status 77 where there is no such layer or device.
here=$(cd "$(dirname "$0")" && pwd)
export TEST_DEVICES=vulkan:0 VK_LAYER_SETTINGS_PATH="$here" TESSERA_LOG=warn
export VK_INSTANCE_LAYERS="VK_LAYER_KHRONOS_validation${VK_INSTANCE_LAYERS:+:$VK_INSTANCE_LAYERS}"

# What no test may do, done on purpose, must end the program.
"$1" fault >/dev/null 2>&1
case $? in
    77)
        echo "skipped: there is no Vulkan device"
        exit 77
        ;;
    133) ;; # SIGTRAP, as the settings want
    *)
        echo "skipped: the validation layer is not installed (Debian, Ubuntu: apt install vulkan-validationlayers)"
        exit 77
        ;;
esac
exec "$1"
