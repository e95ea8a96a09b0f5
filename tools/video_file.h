/* SPDX-License-Identifier: MIT
 *
 * Clips from files, reduced to the pixels that a latent grid stands for. */
#ifndef DRAFT_TOOLS_VIDEO_FILE_H
#define DRAFT_TOOLS_VIDEO_FILE_H

#include <stdint.h>

/* A .y4m file of 8 bits (4:2:0, 4:2:2, 4:1:1, 4:4:4 or grey), or raw frames of 8-bit RGB of `size` (width,
 * height). grid: frames, height, width in tokens. Each token frame is one of up to 4 frames of the
 * file; pixels are averaged down to VIDEO_PATCH for each token. Returns memory for free(), as
 * generate_params.pixels wants it; NULL with a message. */
uint8_t *video_file_read(const char *path, const uint32_t size[2], const uint32_t grid[3]);

#endif
