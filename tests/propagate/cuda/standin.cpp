// A stand-in for the CUDA driver library: kernels.cu compiled for the host, behind the driver's own C interface.
// A launch runs the threads one after another. Nothing here knows what the kernels compute.
//
// conftest.py says how it is compiled.

#include <cmath>
#include <cstring>
#include <utility>

struct Index { unsigned x, y, z; };
struct alignas(8) int2 { int x, y; };
struct alignas(16) int4 { int x, y, z, w; };
struct alignas(8) short4 { short x, y, z, w; };
struct alignas(4) uchar4 { unsigned char x, y, z, w; };
struct alignas(16) float4 { float x, y, z, w; };
static thread_local Index threadIdx, blockIdx, blockDim;
static int atomicAdd(int* place, int value) { return __atomic_fetch_add(place, value, __ATOMIC_RELAXED); }

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__ __restrict

#include "kernels.cu"

template <typename... Types, size_t... Numbers>
static void call(void (*kernel)(Types...), void** values, std::index_sequence<Numbers...>) {
    kernel(*static_cast<Types*>(values[Numbers])...);
}

template <typename... Types>
static void unpack(void (*kernel)(Types...), void** values) {
    call(kernel, values, std::index_sequence_for<Types...>{});
}

template <auto KERNEL>
static void invoke(void** values) { unpack(KERNEL, values); }

struct Kernel { const char* name; void (*invoke)(void**); };
#define KERNEL(NAME) {#NAME, invoke<NAME>}
static Kernel kernels[] = {
    KERNEL(score_3), KERNEL(score_5), KERNEL(score_7), KERNEL(search_3), KERNEL(search_5), KERNEL(search_7),
    KERNEL(vote), KERNEL(activate), KERNEL(count_uses), KERNEL(spread_rows), KERNEL(spread_columns),
    KERNEL(upsample), KERNEL(quarter_pixels), KERNEL(fine_vote),
};

// What a test sets and reads.
extern "C" {
int refuse_ptx = 0, refuse_all = 0, fail_launches = 0, backwards = 0, most_threads = 0;
int retained = 0, loaded_ptx = 0, loaded_cubins = 0, launches = 0, without_context = 0;
void* last_stream = nullptr;
}

static char context, module;
static thread_local int depth = 0;  // of the stack of contexts

extern "C" int cuInit(unsigned) { return 0; }
extern "C" int cuDeviceGet(int* device, int ordinal) { *device = ordinal; return 0; }
extern "C" int cuDevicePrimaryCtxRetain(void** result, int) { retained++; *result = &context; return 0; }
extern "C" int cuCtxPushCurrent_v2(void* pushed) { return pushed == &context ? depth++, 0 : 201; }
extern "C" int cuCtxPopCurrent_v2(void** popped) { return *popped = &context, depth-- > 0 ? 0 : 201; }
extern "C" int cuGetErrorString(int code, const char** text) {
    *text = code == 2 ? "out of memory" : "refused";
    return 0;
}

extern "C" int cuModuleLoadDataEx(void** result, const char* image, unsigned, void*, void*) {
    if (!depth) return 201;
    const bool elf = std::memcmp(image, "\x7f" "ELF", 4) == 0;
    if (refuse_all) return refuse_all;
    if (!elf && refuse_ptx) return refuse_ptx;
    if (!elf && !std::strstr(image, ".version 6.4\n.target sm_50")) return 218;
    (elf ? loaded_cubins : loaded_ptx)++;
    *result = &module;
    return 0;
}

extern "C" int cuModuleGetFunction(void** result, void* from, const char* name) {
    if (from != &module) return 400;
    for (Kernel& kernel : kernels) {
        if (!std::strcmp(kernel.name, name)) return *result = &kernel, 0;
    }
    return 500;
}

extern "C" int cuLaunchKernel(
    void* function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,
    unsigned block_z, unsigned shared, void* stream, void** values, void** extra) {
    if (!depth) without_context++;
    if (fail_launches) return fail_launches;
    if (most_threads && grid_x * grid_y * block_x * block_y > static_cast<unsigned>(most_threads)) return 2;
    if (!grid_x || !grid_y || grid_z != 1 || block_x * block_y > 1024 || block_z != 1 || shared || extra) return 1;
    launches++;
    last_stream = stream;
    blockDim = {block_x, block_y, 1};
    const unsigned blocks = grid_x * grid_y, threads = block_x * block_y;
    for (unsigned number = 0; number < blocks * threads; number++) {
        const unsigned at = backwards ? blocks * threads - 1 - number : number;
        blockIdx = {at / threads % grid_x, at / threads / grid_x, 0};
        threadIdx = {at % threads % block_x, at % threads / block_x, 0};
        static_cast<Kernel*>(function)->invoke(values);
    }
    return 0;
}
