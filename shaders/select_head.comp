#version 460
// SPDX-License-Identifier: MIT
//
// select, rules HEAD and PAPER: the cut of a whole head, S x S pairs.
//
//   step 0        clear the head's histograms
//   step 1 to 4   histogram of one byte of the keys
//   step 5        ties with the cut in each row
//   workgroup     ROWS rows of one head; each finds the digits of the step before by itself, so
//                 no pass is spent on that; the first of a head keeps them for the next step
//
// Five passes over the map; bound by memory bandwidth.
#extension GL_GOOGLE_include_directive : require
#include "select.glsl"

#define ROWS 4

// The search as it stood before histogram `pass` was taken.
Search load_state(Words scratch, uint head, uint pass)
{
    if (pass == 0)
        return Search(0, budget_of(head), false);
    uint at_word = state_word(pass - 1);
    return Search(scratch.v[at_word], scratch.v[at_word + 1], scratch.v[at_word + 2] != 0);
}

// The search after histogram `pass`; the first workgroup of the head writes it down.
Search advance(Words scratch, uint head, uint pass, bool first)
{
    for (uint d = gl_LocalInvocationID.x; d < DIGITS; d += THREADS) {
        low_sum[d] = scratch.v[pass * DIGITS + d];
        high_sum[d] = 0;
    }
    Search s = next_digit(load_state(scratch, head, pass));
    if (first && gl_LocalInvocationID.x == 0) {
        scratch.v[state_word(pass)] = s.prefix;
        scratch.v[state_word(pass) + 1] = s.wanted;
        scratch.v[state_word(pass) + 2] = s.all_kept ? 1 : 0;
    }
    return s;
}

void histogram(Words scratch, uint head, uint first_row, uint pass, Search s)
{
    clear_digits();
    for (uint i = first_row; i < min(first_row + ROWS, G.video_blocks); i++) {
        Row row = row_of(head, i);
        for (uint j = gl_LocalInvocationID.x; j < G.video_blocks; j += THREADS) {
            uint key = key_of(row, j);
            if (matches(key, s, pass))
                atomicAdd(low_sum[digit_of(key, pass)], 1);
        }
    }
    barrier();
    for (uint d = gl_LocalInvocationID.x; d < DIGITS; d += THREADS)
        if (low_sum[d] > 0)
            atomicAdd(scratch.v[pass * DIGITS + d], low_sum[d]);
}

shared uint row_ties[ROWS];

void count_ties(Words scratch, uint head, uint first_row, uint cut)
{
    uint id = gl_LocalInvocationID.x, last = min(first_row + ROWS, G.video_blocks);
    if (id < ROWS)
        row_ties[id] = 0;
    barrier();
    for (uint i = first_row; i < last; i++) {
        Row row = row_of(head, i);
        for (uint j = id; j < G.video_blocks; j += THREADS)
            if (key_of(row, j) == cut)
                atomicAdd(row_ties[i - first_row], 1);
    }
    barrier();
    if (first_row + id < last)
        scratch.v[ties_word(first_row + id)] = row_ties[id];
}

void main()
{
    uint groups = (G.video_blocks + ROWS - 1) / ROWS;
    uint head = a.step == 0 ? workgroup() : workgroup() / groups;
    uint first_row = workgroup() % groups * ROWS;
    Words scratch = head_scratch(head);
    if (a.step == 0) {
        for (uint i = gl_LocalInvocationID.x; i < PASSES * DIGITS; i += THREADS)
            scratch.v[i] = 0;
        return;
    }
    uint pass = a.step - 1;
    Search s = load_state(scratch, head, 0);
    if (pass > 0)
        s = advance(scratch, head, pass - 1, first_row == 0);
    if (pass < PASSES)
        histogram(scratch, head, first_row, pass, s);
    else
        count_ties(scratch, head, first_row, s.prefix);
}
