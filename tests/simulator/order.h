/* SPDX-License-Identifier: MIT
 *
 * Who knows of whose accesses, within a block: vector clocks. A party is a warp, or a barrier in
 * memory by which copies of tiles say that they have arrived. A thread's time goes on whenever it
 * tells others how far it is, and what it did at a time is known to those who know of that time. */
#ifndef DRAFT_TESTS_SIMULATOR_ORDER_H
#define DRAFT_TESTS_SIMULATOR_ORDER_H

#include <cstdint>
#include <vector>

namespace simulator
{

constexpr uint32_t WARP_SIZE = 32;
constexpr uint32_t MAX_WARPS = 32;    /* of a block */
constexpr uint32_t MAX_BARRIERS = 32; /* in the shared memory of a block */
constexpr uint32_t PARTIES = MAX_WARPS + MAX_BARRIERS;

struct LaneTime {
    uint32_t warp, lane, time;
};

/* Up to which time all accesses of each party are known, inclusive. */
struct Knowledge {
    uint32_t times[PARTIES] = {};
    std::vector<LaneTime> lanes; /* single lanes of whom more is known than of their warps */

    void learn(const Knowledge &other);
    void learn_lane(const LaneTime &lane);
    bool knows_lane(uint32_t warp, uint32_t lane, uint32_t time) const;
};

/* What those have told who arrived at a barrier. */
class Arrivals
{
  public:
    void reset();
    bool has(uint32_t thread) const
    {
        return lanes_[thread / WARP_SIZE][thread % WARP_SIZE] != 0;
    }
    /* Where all lanes of a warp have arrived, they speak for the warp. lanes: bit for each. */
    Knowledge conclude(const uint32_t lanes[MAX_WARPS]) const;

  private:
    friend class Order;
    Knowledge told_;
    uint32_t lanes_[MAX_WARPS][WARP_SIZE] = {};
};

class Order
{
  public:
    void reset(uint32_t threads);

    uint32_t time_of(uint32_t thread) const
    {
        return times_[thread];
    }
    /* Behind all that its lanes did so far. */
    uint32_t time_of_warp(uint32_t warp) const
    {
        return latest_[warp];
    }
    /* Of all lanes of the warp; and what one thread learned since its lanes last met. */
    const Knowledge &of_warp(uint32_t warp) const
    {
        return warps_[warp];
    }
    const Knowledge *of_thread(uint32_t thread) const
    {
        return has_own_[thread] ? &own_[thread] : nullptr;
    }
    /* What every thread of these warps knows. Valid until anything changes. */
    const Knowledge &common(uint32_t first_warp, uint32_t count);

    /* All warps meet; the lanes of one do. */
    void meet_all();
    void meet_warp(uint32_t warp);
    /* A thread tells what it knows and did, and goes on; it learns what others told. */
    void arrive(uint32_t thread, Arrivals &arrivals);
    void learn(uint32_t thread, const Knowledge &told);

  private:
    /* An answer of common, until someone of them learns or meets others. */
    struct Common {
        uint32_t first_warp, count;
        bool holds;
        Knowledge knowledge;
    };
    void forget_common(uint32_t warp)
    {
        for (Common &c : commons_)
            c.holds &= warp - c.first_warp >= c.count;
    }

    std::vector<uint32_t> times_, latest_;
    std::vector<Knowledge> warps_, own_;
    std::vector<unsigned char> has_own_;
    std::vector<Common> commons_; /* of each group of warps that was asked for */
};

} // namespace simulator

#endif
