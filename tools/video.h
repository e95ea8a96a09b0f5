/* SPDX-License-Identifier: MIT
 *
 * A procedural video and what a video transformer's layers might see of it: textured things that
 * move before a landscape while the camera pans, and for each token of the latent grid the largest
 * cosine coefficients of its patch. Everything follows from the seed; no libm function that differs
 * between machines decides anything but last bits. */
#ifndef DRAFT_TOOLS_VIDEO_H
#define DRAFT_TOOLS_VIDEO_H

#include <stdint.h>

enum {
    VIDEO_PATCH = 4,     /* pixels along the side of a token                         */
    VIDEO_FEATURES = 32, /* of a token: patch coefficients, largest variance first   */
    VIDEO_SMOOTH = 16,   /* of the first features, averaged over 5 x 5 tokens        */
    VIDEO_DETAIL = 12    /* features from this one on are detail                     */
};

struct video {
    uint32_t frames, height, width; /* tokens                                              */
    uint8_t *pixels;                /* RGB, [frames, height x PATCH, width x PATCH]        */
    float *features;                /* [tokens, FEATURES], each with mean 0 and variance 1 */
    float *smooth;                  /* [tokens, SMOOTH]                                    */
    float spectrum[VIDEO_FEATURES]; /* standard deviation before that, relative to the first */
    double moment[VIDEO_SMOOTH][VIDEO_SMOOTH]; /* mean over the tokens of smooth x smooth  */
};

/* Each of frames, height, width at least 1. pixels: NULL, or a video in place of the procedural
 * one, as in the struct. threads: 0: one for each processor. */
struct video *video_create(uint32_t frames, uint32_t height, uint32_t width, uint64_t seed,
                           const uint8_t *pixels, unsigned threads);
void video_destroy(struct video *video);

/* Where the nearest thing is in a frame, in tokens: something worth looking at. */
void video_subject(const struct video *video, uint64_t seed, uint32_t frame, uint32_t *row,
                   uint32_t *column);

#endif
