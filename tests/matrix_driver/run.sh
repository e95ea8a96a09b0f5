#!/bin/sh
# SPDX-License-Identifier: MIT
# run.sh FOLDER MODEL PROGRAM [ARGUMENT...]: run a program on the simulated matrices of a model.
# FOLDER is tests/matrix_driver of the build; models are in model.c. What the driver has compiled of
# the same SPIR-V serves all that run there.
folder=$1
model=$2
shift 2
cache=$(mktemp -d) # verdicts of earlier self-tests, and pipelines, are of no use here
trap 'rm -rf "$cache"' EXIT
MESA_SHADER_CACHE_DIR=${MESA_SHADER_CACHE_DIR:-$folder/shaders} VK_ADD_LAYER_PATH=$folder \
    VK_INSTANCE_LAYERS=VK_LAYER_DRAFT_matrix_driver DRAFT_MATRIX_DRIVER=$model \
    XDG_CACHE_HOME=$cache "$@"
