// SPDX-License-Identifier: MIT
//
// Tiles of KEYS keys for kernels whose workgroup shares them: which rows of k and v, at which bias.
// Needs ID, the number of an invocation, at least KEYS of them, and LOG2_E.

// Distances from the first row, in strides; and what is added to the logits times log2 (e).
shared uint key_place[KEYS];
shared vec4 key_bias[KEYS / 4];

// Of the kernel: all rows of the workgroup attend to the first `keys` of the tile. There is one at
// least; the others have the place of a key, but a bias of -INF. k and v: first rows; strides
// in units. Ends with a barrier.
void add_tile(uvec2 k, uint k_stride, uvec2 v, uint v_stride, uint keys);

void add_block(KeyRows keys)
{
    for (uint first = 0; first < keys.b.valid; first += KEYS) {
        if (ID < KEYS) {
            key_place[ID] = slot_token(keys.b, min(first + ID, keys.b.valid - 1));
            key_bias[ID / 4][ID % 4] = bias_of(keys, first + ID) * LOG2_E;
        }
        barrier();
        add_tile(keys.k, keys.k_stride, keys.v, keys.v_stride, min(keys.b.valid - first, KEYS));
    }
}
