/* SPDX-License-Identifier: MIT */
#include "order.h"

#include <algorithm>

namespace simulator
{

void Knowledge::learn_lane(const LaneTime &lane)
{
    if (times[lane.warp] >= lane.time)
        return;
    for (LaneTime &known : lanes)
        if (known.warp == lane.warp && known.lane == lane.lane) {
            known.time = std::max(known.time, lane.time);
            return;
        }
    lanes.push_back(lane);
}

void Knowledge::learn(const Knowledge &other)
{
    for (uint32_t i = 0; i < PARTIES; i++)
        times[i] = std::max(times[i], other.times[i]);
    for (const LaneTime &lane : other.lanes)
        learn_lane(lane);
}

bool Knowledge::knows_lane(uint32_t warp, uint32_t lane, uint32_t time) const
{
    for (const LaneTime &known : lanes)
        if (known.warp == warp && known.lane == lane && known.time >= time)
            return true;
    return false;
}

/* ---- Arrivals ---- */

void Arrivals::reset()
{
    *this = Arrivals();
}

Knowledge Arrivals::conclude(const uint32_t lanes[MAX_WARPS]) const
{
    Knowledge all = told_;
    for (uint32_t w = 0; w < MAX_WARPS; w++) {
        uint32_t least = UINT32_MAX;
        for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
            if (lanes[w] >> lane & 1)
                least = std::min(least, lanes_[w][lane]);
        if (lanes[w])
            all.times[w] = std::max(all.times[w], least);
        for (uint32_t lane = 0; lane < WARP_SIZE; lane++)
            if (lanes_[w][lane])
                all.learn_lane({w, lane, lanes_[w][lane]});
    }
    return all;
}

/* ---- Order ---- */

void Order::reset(uint32_t threads)
{
    uint32_t warps = (threads + WARP_SIZE - 1) / WARP_SIZE;
    times_.assign(threads, 1);
    latest_.assign(warps, 1);
    warps_.assign(warps, Knowledge());
    own_.resize(threads);
    has_own_.assign(threads, 0);
    commons_.clear();
}

const Knowledge &Order::common(uint32_t first_warp, uint32_t count)
{
    Common *at = nullptr;
    for (Common &c : commons_)
        if (c.first_warp == first_warp && c.count == count)
            at = &c;
    if (at && at->holds)
        return at->knowledge;
    if (!at) {
        commons_.push_back({first_warp, count, false, Knowledge()});
        at = &commons_.back();
    }
    uint32_t *all = at->knowledge.times;
    std::fill(all, all + PARTIES, UINT32_MAX);
    for (uint32_t w = first_warp; w < first_warp + count; w++)
        for (uint32_t t = w * WARP_SIZE; t < (w + 1) * WARP_SIZE && t < times_.size(); t++) {
            const uint32_t *warp = warps_[w].times;
            const uint32_t *own = has_own_[t] ? own_[t].times : warp;
            for (uint32_t i = 0; i < PARTIES; i++)
                all[i] = std::min(all[i], std::max(warp[i], own[i]));
        }
    at->holds = true;
    return at->knowledge;
}

void Order::meet_warp(uint32_t warp)
{
    forget_common(warp);
    for (uint32_t t = warp * WARP_SIZE; t < (warp + 1) * WARP_SIZE && t < times_.size(); t++) {
        times_[t] = latest_[warp] + 1;
        if (!has_own_[t])
            continue;
        warps_[warp].learn(own_[t]);
        has_own_[t] = 0;
    }
    warps_[warp].times[warp] = latest_[warp]++;
}

void Order::meet_all()
{
    Knowledge all;
    for (uint32_t w = 0; w < warps_.size(); w++) {
        meet_warp(w);
        for (uint32_t i = 0; i < PARTIES; i++)
            all.times[i] = std::max(all.times[i], warps_[w].times[i]);
    }
    for (Knowledge &warp : warps_)
        warp = all;
}

void Order::arrive(uint32_t thread, Arrivals &arrivals)
{
    uint32_t warp = thread / WARP_SIZE;
    arrivals.told_.learn(warps_[warp]);
    if (has_own_[thread])
        arrivals.told_.learn(own_[thread]);
    arrivals.lanes_[warp][thread % WARP_SIZE] = times_[thread]++;
    latest_[warp] = std::max(latest_[warp], times_[thread]);
}

void Order::learn(uint32_t thread, const Knowledge &told)
{
    forget_common(thread / WARP_SIZE);
    if (!has_own_[thread])
        own_[thread] = Knowledge();
    has_own_[thread] = 1;
    own_[thread].learn(told);
}

} // namespace simulator
