#!/bin/sh
# SPDX-License-Identifier: MIT
# validated.sh PROGRAM [ARGUMENT...]: run a test under the Vulkan validation layer; a single line of
# the layer is a failure. Exit status 77 where the layer is not installed.
layer=VK_LAYER_KHRONOS_validation
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sync='enables = VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT'
# Newer layers have a setting for that alone, and complain about the other.
for manifests in /usr/share /usr/local/share /etc; do
    if grep -qs '"validate_sync"' "$manifests"/vulkan/explicit_layer.d/*validation.json; then
        sync='validate_sync = true'
    fi
done
cat >"$folder/vk_layer_settings.txt" <<SETTINGS
khronos_validation.debug_action = VK_DBG_LAYER_ACTION_LOG_MSG
khronos_validation.report_flags = error,warn
khronos_validation.$sync
khronos_validation.log_filename = $folder/messages
SETTINGS
VK_INSTANCE_LAYERS=$layer VK_LAYER_SETTINGS_PATH=$folder VK_LOADER_DEBUG=layer \
    "$@" 2>"$folder/stderr"
status=$?
grep -v '^.*LAYER:' "$folder/stderr" | grep -v '^ *$' | head -40 >&2
if ! grep -q "Insert.*$layer" "$folder/stderr"; then
    echo "$layer is not installed or was not loaded: nothing was validated" >&2
    [ $status -eq 0 ] && status=77
fi
if [ -s "$folder/messages" ]; then
    echo "validation layer:" >&2
    head -60 "$folder/messages" >&2
    status=1
fi
exit $status
