// SPDX-License-Identifier: MIT
//
// Tiles of KEYS keys for kernels whose workgroup shares them: which rows of k and v, at which bias.
// Needs ID, the number of an invocation, and at least KEYS of them.

// Distances from the first row, in strides; and what is added to the logits times log2 (e).
shared uint key_place[KEYS];
shared vec4 key_bias[KEYS / 4];

// Of the kernel: all rows of the workgroup attend to the first `keys` of the tile. There is one at
// least; the others have the place of a key, but a bias of -INF. k and v: first rows; strides
// in units. Ends with a barrier.
void add_tile(uvec2 k, uint k_stride, uvec2 v, uint v_stride, uint keys);

void add_block(Block b, uvec2 k_head, uvec2 v_head)
{
    uvec2 k = at(k_head, b.first, a.k_token, 4), v = at(v_head, b.first, a.v_token, 4);
    for (uint first = 0; first < b.valid; first += KEYS) {
        if (ID < KEYS) {
            key_place[ID] = slot_token(b, min(first + ID, b.valid - 1));
            key_bias[ID / 4][ID % 4] = first + ID < b.valid ? 0.0 : -INF;
        }
        barrier();
        add_tile(k, a.k_token, v, a.v_token, min(b.valid - first, KEYS));
    }
}
