// The CUDA kernels of the patch synthesis. docs/propagation.md, "Arithmetic", says what they compute.
//
// No header is included: NVRTC compiles this text to kernels.ptx (tools/build_ptx.py), and the tests compile the same
// text with a host compiler. One thread works on one pixel. Every kernel reads what the one before it has finished and
// writes elsewhere, so that a result does not depend on the order of the threads.
//
// Shapes, row by row (L = lanes, a multiple of 16; h = patch / 2):
//   source (Hs, Ws, L) int16        target (H + 2h, W + 2h, L) int16, edges repeated
//   nnf (H, W) int2 = (x, y)        errors (H, W) int32          active, wanted, changed (H, W) uint8
//   barrier, penalty, uses (Hs, Ws) int32                        moving: one int32, not 0 while the level goes on
//   quarters (H, W) int2, -2 ... 2 quarters of a pixel           style (Hs, Ws), fine (4 Hs - 3, 4 Ws - 3) uchar4
//   picture (H, W) float4

typedef unsigned char u8;
typedef unsigned int u32;

#define FORBIDDEN 1073741823  // 2^30 - 1
#define PIXEL_OR_RETURN(columns, rows)              \
    const int x = blockIdx.x * blockDim.x + threadIdx.x; \
    const int y = blockIdx.y * blockDim.y + threadIdx.y; \
    if (x >= (columns) || y >= (rows)) return;

static __device__ __forceinline__ int least(int a, int b) { return a < b ? a : b; }
static __device__ __forceinline__ int most(int a, int b) { return a > b ? a : b; }
static __device__ __forceinline__ int limit(int value, int low, int high) { return least(most(value, low), high); }

// Wellons' lowbias32: the next 32 random bits.
static __device__ __forceinline__ u32 mix(u32 state) {
    state = (state ^ (state >> 16)) * 0x7FEB352Du;
    state = (state ^ (state >> 15)) * 0x846CA68Bu;
    return state ^ (state >> 16);
}

// 16 random bits to -radius ... radius.
static __device__ __forceinline__ int scaled(u32 bits, int radius) {
    return (int)((bits * (u32)(2 * radius + 1)) >> 16) - radius;
}

// Two int16 channels in one word.
static __device__ __forceinline__ u32 pair_error(int a, int b) {
    const int low = (short)a - (short)b, high = (a >> 16) - (b >> 16);
    return low * low + high * high;
}

static __device__ __forceinline__ u32 octet_error(int4 a, int4 b) {
    return pair_error(a.x, b.x) + pair_error(a.y, b.y) + pair_error(a.z, b.z) + pair_error(a.w, b.w);
}

// Sum of squared differences of two patches by their upper left corners; stops after a row once it reaches `enough`.
// Strides are in int4, groups = L / 16.
template <int PATCH>
static __device__ __forceinline__ u32 patch_error(
    const int4* __restrict__ source, const int4* __restrict__ target,
    int source_stride, int target_stride, int groups, u32 enough) {
    u32 total = 0;
    for (int row = 0; row < PATCH && total < enough; row++) {
        for (int group = 0; group < groups; group++) {
#pragma unroll
            for (int i = 0; i < 2 * PATCH; i++) {
                const int at = group * 2 * PATCH + i;
                total += octet_error(source[at], target[at]);
            }
        }
        source += source_stride;
        target += target_stride;
    }
    return total;
}

// The errors of the active pixels, from scratch.
template <int PATCH>
static __device__ __forceinline__ void score(
    const int4* source, const int4* target, const int2* nnf, int* errors, const u8* active,
    int height, int width, int source_width, int groups) {
    PIXEL_OR_RETURN(width, height)
    if (!active[y * width + x]) return;
    const int half = PATCH / 2, quads = 2 * groups, target_width = width + 2 * half;
    const int2 centre = nnf[y * width + x];
    errors[y * width + x] = (int)patch_error<PATCH>(
        source + (size_t)((centre.y - half) * source_width + centre.x - half) * quads,
        target + (size_t)(y * target_width + x) * quads,
        source_width * quads, target_width * quads, groups, 0xFFFFFFFFu);
}

// One search pass over all pixels at once, from the field `before`: the offsets of four neighbours at distances 4, 2
// and 1, then random places around the best at halving radii. Costs stay below 2^31 + 2^30, so they are unsigned.
template <int PATCH>
static __device__ __forceinline__ void search(
    const int4* source, const int4* target, const int2* before, int2* after, int* errors, const int* penalty,
    const u8* active, int height, int width, int source_height, int source_width, int groups,
    int unit, int radius, u32 key) {
    PIXEL_OR_RETURN(width, height)
    const int here = y * width + x;
    const int2 start = before[here];
    int2 best = start;
    if (!active[here]) {
        after[here] = start;
        return;
    }
    const int half = PATCH / 2, quads = 2 * groups, target_width = width + 2 * half;
    const int4* patch = target + (size_t)(y * target_width + x) * quads;
    u32 best_error = errors[here];
    u32 best_cost = best_error + penalty[start.y * source_width + start.x] - unit * PATCH * PATCH;
    u32 state = ((u32)here * 0x9E3779B1u) ^ key;
    for (int trial = 0; trial < 12 || radius >= 1; trial++) {
        int2 next;
        if (trial < 12) {
            const int away = (4 >> (trial / 4)) * (trial & 1 ? 1 : -1), across = trial & 2;
            const int near_x = limit(across ? x : x + away, 0, width - 1);
            const int near_y = limit(across ? y + away : y, 0, height - 1);
            next = before[near_y * width + near_x];
            next.x += x - near_x;
            next.y += y - near_y;
        } else {
            state = mix(state);
            next.x = best.x + scaled(state & 0xFFFFu, radius);
            next.y = best.y + scaled(state >> 16, radius);
            radius /= 2;
        }
        next.x = limit(next.x, half, source_width - 1 - half);
        next.y = limit(next.y, half, source_height - 1 - half);
        if (next.x == best.x && next.y == best.y) continue;
        const int shared_x = most(PATCH - (next.x > start.x ? next.x - start.x : start.x - next.x), 0);
        const int shared_y = most(PATCH - (next.y > start.y ? next.y - start.y : start.y - next.y), 0);
        const u32 extra = penalty[next.y * source_width + next.x] - unit * shared_x * shared_y;
        if (extra >= best_cost) continue;
        const u32 error = patch_error<PATCH>(
            source + (size_t)((next.y - half) * source_width + next.x - half) * quads, patch,
            source_width * quads, target_width * quads, groups, best_cost - extra);
        if (error < best_cost - extra) {
            best_cost = error + extra;
            best_error = error;
            best = next;
        }
    }
    after[here] = best;
    errors[here] = (int)best_error;
}

#define FOR_PATCH(PATCH)                                                                                           \
    extern "C" __global__ void score_##PATCH(                                                                      \
        const int4* __restrict__ source, const int4* __restrict__ target, const int2* __restrict__ nnf,            \
        int* __restrict__ errors, const u8* __restrict__ active, int height, int width, int source_width,          \
        int groups) {                                                                                              \
        score<PATCH>(source, target, nnf, errors, active, height, width, source_width, groups);                    \
    }                                                                                                              \
    extern "C" __global__ void search_##PATCH(                                                                     \
        const int4* __restrict__ source, const int4* __restrict__ target, const int2* __restrict__ before,         \
        int2* __restrict__ after, int* __restrict__ errors, const int* __restrict__ penalty,                       \
        const u8* __restrict__ active, int height, int width, int source_height, int source_width, int groups,     \
        int unit, int radius, u32 key) {                                                                           \
        search<PATCH>(source, target, before, after, errors, penalty, active, height, width, source_height,        \
                      source_width, groups, unit, radius, key);                                                    \
    }

FOR_PATCH(3)
FOR_PATCH(5)
FOR_PATCH(7)

// The style channels of a pixel become the mean of the patches that cover it, weighed by 1 / (1 + softness * error).
// Only within a patch of an active pixel: nothing else can have changed. A pixel at the border repeats itself into the
// target's margin. `changed` becomes 1 where a channel moved by its threshold or more.
extern "C" __global__ void vote(
    const short4* __restrict__ source, const int2* __restrict__ nnf, const int* __restrict__ errors,
    const u8* __restrict__ active, short* __restrict__ target, u8* __restrict__ changed,
    const int* __restrict__ thresholds, int height, int width, int source_width, int lanes, int styles, int half,
    float softness) {
    PIXEL_OR_RETURN(width, height)
    float total[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    float weights = 0.0f;
    bool touched = false;
    for (int near_y = most(y - half, 0); near_y <= least(y + half, height - 1); near_y++) {
        for (int near_x = most(x - half, 0); near_x <= least(x + half, width - 1); near_x++) {
            touched |= active[near_y * width + near_x] != 0;
        }
    }
    changed[y * width + x] = 0;
    if (!touched) return;
    for (int near_y = most(y - half, 0); near_y <= least(y + half, height - 1); near_y++) {
        for (int near_x = most(x - half, 0); near_x <= least(x + half, width - 1); near_x++) {
            const int near = near_y * width + near_x;
            const int2 centre = nnf[near];
            const int at = (centre.y + y - near_y) * source_width + centre.x + x - near_x;
            const short4 colour = source[(size_t)at * (lanes / 4)];
            const float weight = softness > 0.0f ? 1.0f / (1.0f + softness * (float)errors[near]) : 1.0f;
            weights += weight;
            total[0] += weight * (float)colour.x;
            total[1] += weight * (float)colour.y;
            total[2] += weight * (float)colour.z;
            total[3] += weight * (float)colour.w;
        }
    }
    const int top = y == 0 ? 0 : y + half, bottom = y == height - 1 ? y + 2 * half : y + half;
    const int left = x == 0 ? 0 : x + half, right = x == width - 1 ? x + 2 * half : x + half;
    const int target_width = width + 2 * half;
    const size_t old = (size_t)((y + half) * target_width + x + half) * lanes;
    int value[4];
    bool moved = false;
#pragma unroll
    for (int c = 0; c < 4; c++) {
        if (c >= styles) break;
        value[c] = (int)rintf(total[c] / weights);
        const int change = value[c] - target[old + c];
        moved |= (change < 0 ? -change : change) >= thresholds[c];
    }
    changed[y * width + x] = moved;
    for (int row = top; row <= bottom; row++) {
        for (int column = left; column <= right; column++) {
#pragma unroll
            for (int c = 0; c < 4; c++) {
                if (c < styles) target[(size_t)(row * target_width + column) * lanes + c] = (short)value[c];
            }
        }
    }
}

// active = changed, grown by a patch, within `wanted`. `moving` becomes 1 if anything is active.
extern "C" __global__ void activate(
    const u8* __restrict__ changed, const u8* __restrict__ wanted, u8* __restrict__ active, int* __restrict__ moving,
    int height, int width, int half) {
    PIXEL_OR_RETURN(width, height)
    bool any = false;
    for (int near_y = most(y - half, 0); near_y <= least(y + half, height - 1); near_y++) {
        for (int near_x = most(x - half, 0); near_x <= least(x + half, width - 1); near_x++) {
            any |= changed[near_y * width + near_x] != 0;
        }
    }
    any = any && wanted[y * width + x];
    active[y * width + x] = any;
    if (any) *moving = 1;
}

// Each target pixel counts as one use of the source pixel that it points at. `uses` starts with zeros.
extern "C" __global__ void count_uses(
    const int2* __restrict__ nnf, int* __restrict__ uses, const int* __restrict__ moving,
    int height, int width, int source_width) {
    PIXEL_OR_RETURN(width, height)
    if (!*moving) return;
    const int2 centre = nnf[y * width + x];
    atomicAdd(uses + (centre.y * source_width + centre.x), 1);
}

// The two box filters of the use counts make a triangular one, which is separable: first along the rows.
extern "C" __global__ void spread_rows(
    const int* __restrict__ uses, int* __restrict__ spread, const int* __restrict__ moving,
    int source_height, int source_width, int patch) {
    PIXEL_OR_RETURN(source_width, source_height)
    if (!*moving) return;
    int sum = 0;
    for (int d = 1 - patch; d < patch; d++) {
        if (x + d >= 0 && x + d < source_width) sum += (patch - (d < 0 ? -d : d)) * uses[y * source_width + x + d];
    }
    spread[y * source_width + x] = sum;
}

// Then along the columns; the penalty is the larger one of `unit` a use and the barrier. Clears `uses` for the next pass.
extern "C" __global__ void spread_columns(
    const int* __restrict__ spread, const int* __restrict__ barrier, int* __restrict__ uses,
    int* __restrict__ penalty, const int* __restrict__ moving,
    int source_height, int source_width, int patch, int unit) {
    PIXEL_OR_RETURN(source_width, source_height)
    if (!*moving) return;
    const int here = y * source_width + x;
    long long sum = 0;
    for (int d = 1 - patch; d < patch; d++) {
        if (y + d >= 0 && y + d < source_height) sum += (patch - (d < 0 ? -d : d)) * spread[here + d * source_width];
    }
    sum *= unit;
    uses[here] = 0;
    penalty[here] = most(sum < FORBIDDEN ? (int)sum : FORBIDDEN, barrier[here]);
}

// The field of a level from that of the level above, which is half as fine: 2X + r points at 2 nnf(X) + r.
extern "C" __global__ void upsample(
    const int2* __restrict__ coarse, int2* __restrict__ fine, int height, int width, int coarse_width,
    int source_height, int source_width, int half) {
    PIXEL_OR_RETURN(width, height)
    const int2 above = coarse[(y / 2) * coarse_width + x / 2];
    int2 place;
    place.x = limit(2 * above.x + x % 2, half, source_width - 1 - half);
    place.y = limit(2 * above.y + y % 2, half, source_height - 1 - half);
    fine[y * width + x] = place;
}

// The style with three pixels between any two. `weights` (4, 4, 4, 4): for the quarters along y and x, 4 x 4 taps in
// 1 / 32768; the edges are repeated.
extern "C" __global__ void quarter_pixels(
    const uchar4* __restrict__ style, const int* __restrict__ weights, uchar4* __restrict__ fine,
    int source_height, int source_width) {
    PIXEL_OR_RETURN(4 * source_width - 3, 4 * source_height - 3)
    const int* weight = weights + (y % 4 * 4 + x % 4) * 16;
    int sum[4] = {16384, 16384, 16384, 16384};
    for (int tap = 0; tap < 16; tap++) {
        const int at_y = limit(y / 4 + tap / 4 - 1, 0, source_height - 1);
        const int at_x = limit(x / 4 + tap % 4 - 1, 0, source_width - 1);
        const uchar4 colour = style[at_y * source_width + at_x];
        sum[0] += weight[tap] * colour.x;
        sum[1] += weight[tap] * colour.y;
        sum[2] += weight[tap] * colour.z;
        sum[3] += weight[tap] * colour.w;
    }
    uchar4 result;
    result.x = (u8)limit(sum[0] >> 15, 0, 255);
    result.y = (u8)limit(sum[1] >> 15, 0, 255);
    result.z = (u8)limit(sum[2] >> 15, 0, 255);
    result.w = (u8)limit(sum[3] >> 15, 0, 255);
    fine[(size_t)y * (4 * source_width - 3) + x] = result;
}

// A vote over the whole picture with patches at quarters of a pixel.
extern "C" __global__ void fine_vote(
    const uchar4* __restrict__ fine, const int2* __restrict__ nnf, const int2* __restrict__ quarters,
    const int* __restrict__ errors, float4* __restrict__ picture, int height, int width, int source_height,
    int source_width, int half, float softness) {
    PIXEL_OR_RETURN(width, height)
    float4 total = {0.0f, 0.0f, 0.0f, 0.0f};
    float weights = 0.0f;
    for (int near_y = most(y - half, 0); near_y <= least(y + half, height - 1); near_y++) {
        for (int near_x = most(x - half, 0); near_x <= least(x + half, width - 1); near_x++) {
            const int near = near_y * width + near_x;
            const int2 centre = nnf[near], quarter = quarters[near];
            const int at_x = limit(4 * (centre.x + x - near_x) + quarter.x, 0, 4 * source_width - 4);
            const int at_y = limit(4 * (centre.y + y - near_y) + quarter.y, 0, 4 * source_height - 4);
            const uchar4 colour = fine[(size_t)at_y * (4 * source_width - 3) + at_x];
            const float weight = softness > 0.0f ? 1.0f / (1.0f + softness * (float)errors[near]) : 1.0f;
            weights += weight;
            total.x += weight * (float)colour.x;
            total.y += weight * (float)colour.y;
            total.z += weight * (float)colour.z;
            total.w += weight * (float)colour.w;
        }
    }
    total.x /= weights;
    total.y /= weights;
    total.z /= weights;
    total.w /= weights;
    picture[y * width + x] = total;
}
