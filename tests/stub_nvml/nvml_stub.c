/* A stand-in for libnvidia-ml.so.1 that plays readings from a text file, so that the unmodified nvidia-ml-py runs its
 * real ctypes path on a machine without a GPU.
 *
 * NVML_STUB names the file: one "key value" a line, keys as in a capture's "nvml" part ("devices.0.memory_v2.total").
 * A value "error:N" makes the call return N. A key that is absent makes it return NVML_ERROR_NOT_SUPPORTED.
 * "slow.FUNCTION SECONDS" makes a call take that long. -DNVML_STUB_OLD leaves out symbols that old drivers lack.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;
typedef int result;
typedef void *handle;

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, VERSION_MISMATCH = 25 };
enum { LINES = 4096, WIDTH = 512, SLICE_STRIDE = 1000 };

static char keys[LINES][WIDTH / 2], values[LINES][WIDTH / 2];
static int lines;

static void load(void) {
    const char *path = getenv("NVML_STUB");
    FILE *file = path ? fopen(path, "rb") : NULL;
    char line[WIDTH];
    lines = 0;
    while (file && lines < LINES && fgets(line, sizeof line, file)) {
        char *space = strchr(line, ' ');
        line[strcspn(line, "\n")] = 0;
        if (!space) continue;
        *space = 0;
        strncpy(keys[lines], line, sizeof keys[0] - 1);
        strncpy(values[lines], space + 1, sizeof values[0] - 1);
        lines++;
    }
    if (file) fclose(file);
}

static const char *find(const char *key) {
    for (int i = 0; i < lines; i++)
        if (!strcmp(keys[i], key)) return values[i];
    return NULL;
}

static void dawdle(const char *function) {
    char key[WIDTH];
    snprintf(key, sizeof key, "slow.%s", function);
    const char *seconds = find(key);
    if (seconds) sleep((u32)atoi(seconds));
}

/* "devices.I." or "devices.I.slices.J." followed by the field. */
static const char *of(handle device, const char *field, char *key) {
    size_t number = (size_t)device;
    if (number >= SLICE_STRIDE)
        snprintf(key, WIDTH, "devices.%zu.slices.%zu.%s", number / SLICE_STRIDE - 1, number % SLICE_STRIDE, field);
    else
        snprintf(key, WIDTH, "devices.%zu.%s", number - 1, field);
    return key;
}

static result text(const char *key, char *out, u32 size) {
    const char *value = find(key);
    if (!value) return NOT_SUPPORTED;
    if (!strncmp(value, "error:", 6)) return atoi(value + 6);
    snprintf(out, size, "%s", value);
    return SUCCESS;
}

static result number(const char *key, u64 *out) {
    char value[WIDTH];
    result status = text(key, value, sizeof value);
    if (status == SUCCESS) *out = strtoull(value, NULL, 10);
    return status;
}

static result field(handle device, const char *name, u32 *out, const char *function) {
    char key[WIDTH];
    u64 value = 0;
    dawdle(function);
    /* "devices.0.memory_v2 error:3" stands for the whole group. */
    result status = number(of(device, name, key), &value);
    if (status == SUCCESS) *out = (u32)value;
    return status;
}

static result pair(handle device, const char *name, u32 *first, u32 *second, const char *function) {
    char whole[WIDTH], part[WIDTH], value[WIDTH];
    result status = text(of(device, name, whole), value, sizeof value);
    if (status != NOT_SUPPORTED || find(whole)) return status;
    snprintf(part, sizeof part, "%s.0", name);
    status = field(device, part, first, function);
    if (status != SUCCESS) return status;
    snprintf(part, sizeof part, "%s.1", name);
    return field(device, part, second, function);
}

result nvmlInitWithFlags(u32 flags) {
    u64 ignored;
    (void)flags;
    load();
    dawdle("nvmlInitWithFlags");
    result status = number("init", &ignored);
    return status == NOT_SUPPORTED ? SUCCESS : status;
}
result nvmlShutdown(void) { dawdle("nvmlShutdown"); return SUCCESS; }
const char *nvmlErrorString(result status) { (void)status; return "stub error"; }
result nvmlSystemGetDriverVersion(char *out, u32 size) { dawdle(__func__); return text("driver", out, size); }
result nvmlSystemGetCudaDriverVersion_v2(int *out) {
    dawdle(__func__);
    u64 value = 0;
    result status = number("cuda", &value);
    *out = (int)value;
    return status;
}
result nvmlDeviceGetCount_v2(u32 *out) {
    dawdle(__func__);
    u64 value = 0;
    result status = number("count", &value);
    *out = (u32)value;
    return status;
}
result nvmlDeviceGetHandleByIndex_v2(u32 index, handle *out) {
    dawdle(__func__);
    char key[WIDTH], value[WIDTH];
    *out = (handle)(size_t)(index + 1);
    result status = text(of(*out, "handle", key), value, sizeof value);
    return status == NOT_SUPPORTED && !find(key) ? SUCCESS : status;
}
result nvmlDeviceGetName(handle device, char *out, u32 size) {
    char key[WIDTH];
    dawdle("nvmlDeviceGetName");
    return text(of(device, "name", key), out, size);
}

struct memory { u64 total, free, used; };
struct memory_v2 { u32 version; u64 total, reserved, free, used; };

static result memory(handle device, const char *group, const char *part, u64 *out) {
    char name[WIDTH], key[WIDTH], value[WIDTH];
    result status = text(of(device, group, key), value, sizeof value);
    if (status != NOT_SUPPORTED || find(key)) return status;
    snprintf(name, sizeof name, "%s.%s", group, part);
    return number(of(device, name, key), out);
}
result nvmlDeviceGetMemoryInfo(handle device, struct memory *out) {
    dawdle(__func__);
    result status = memory(device, "memory_v1", "total", &out->total);
    if (status == SUCCESS) status = memory(device, "memory_v1", "free", &out->free);
    if (status == SUCCESS) status = memory(device, "memory_v1", "used", &out->used);
    return status;
}
#ifndef NVML_STUB_OLD
result nvmlDeviceGetMemoryInfo_v2(handle device, struct memory_v2 *out) {
    if (out->version != 0x02000028) return VERSION_MISMATCH;
    dawdle("nvmlDeviceGetMemoryInfo_v2");
    result status = memory(device, "memory_v2", "total", &out->total);
    if (status == SUCCESS) status = memory(device, "memory_v2", "reserved", &out->reserved);
    if (status == SUCCESS) status = memory(device, "memory_v2", "free", &out->free);
    if (status == SUCCESS) status = memory(device, "memory_v2", "used", &out->used);
    return status;
}
#endif

#define FIELD(function, name) \
    result function(handle device, u32 *out) { return field(device, name, out, #function); }

FIELD(nvmlDeviceGetMemoryBusWidth, "bus_width_bits")
FIELD(nvmlDeviceGetMaxPcieLinkGeneration, "pcie_generation_max")
FIELD(nvmlDeviceGetMaxPcieLinkWidth, "pcie_lanes_max")
FIELD(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation_now")
FIELD(nvmlDeviceGetCurrPcieLinkWidth, "pcie_lanes_now")
FIELD(nvmlDeviceGetEnforcedPowerLimit, "power_limit_mw")
FIELD(nvmlDeviceGetPowerManagementDefaultLimit, "power_default_mw")
FIELD(nvmlDeviceGetVirtualizationMode, "virtualization")
FIELD(nvmlDeviceGetDisplayActive, "display_active")
#ifndef NVML_STUB_OLD
FIELD(nvmlDeviceGetNumGpuCores, "cores")
FIELD(nvmlDeviceGetGpuMaxPcieLinkGeneration, "pcie_generation_device")
FIELD(nvmlDeviceGetNumaNodeId, "numa_node")
FIELD(nvmlDeviceGetMaxMigDeviceCount, "mig_most")
FIELD(nvmlDeviceGetC2cModeInfoV, "chip_to_chip")

struct versioned { u32 version, value; };
result nvmlDeviceGetAddressingMode(handle device, struct versioned *out) {
    if (out->version != 0x01000008) return VERSION_MISMATCH;
    return field(device, "addressing_mode", &out->value, "nvmlDeviceGetAddressingMode");
}
result nvmlDeviceGetMigMode(handle device, u32 *now, u32 *next) {
    return pair(device, "mig", now, next, "nvmlDeviceGetMigMode");
}
result nvmlDeviceGetMigDeviceHandleByIndex(handle device, u32 index, handle *out) {
    dawdle(__func__);
    char key[WIDTH], part[64];
    snprintf(part, sizeof part, "slices.%u.name", index);
    if (!find(of(device, part, key))) return NOT_FOUND;
    *out = (handle)((size_t)device * SLICE_STRIDE + index);
    return SUCCESS;
}
struct attributes { u32 multiprocessors, shared[5], gpu_slices, compute_slices; u64 memory_mb; };
result nvmlDeviceGetAttributes_v2(handle device, struct attributes *out) {
    memset(out, 0, sizeof *out);
    return field(device, "sm_count", &out->multiprocessors, "nvmlDeviceGetAttributes_v2");
}
#endif

result nvmlDeviceGetMaxClockInfo(handle device, u32 type, u32 *out) {
    /* NVML_CLOCK_SM is 1, NVML_CLOCK_MEM is 2. */
    return field(device, type == 2 ? "memory_clock_mhz" : "sm_clock_mhz", out, "nvmlDeviceGetMaxClockInfo");
}
result nvmlDeviceGetCudaComputeCapability(handle device, int *major, int *minor) {
    return pair(device, "compute_capability", (u32 *)major, (u32 *)minor, "nvmlDeviceGetCudaComputeCapability");
}
result nvmlDeviceGetEccMode(handle device, u32 *now, u32 *next) {
    return pair(device, "ecc", now, next, "nvmlDeviceGetEccMode");
}

struct pci { char legacy[16]; u32 domain, bus, device, id, subsystem; char address[32]; };
static result pci(handle device, struct pci *out) {
    char key[WIDTH], value[WIDTH];
    u32 vendor = 0, product = 0;
    memset(out, 0, sizeof *out);
    result status = text(of(device, "pci", key), value, sizeof value);
    if (status != NOT_SUPPORTED || find(key)) return status;
    status = text(of(device, "pci.id", key), value, sizeof value);
    if (status != SUCCESS) return status;
    sscanf(value, "%x:%x", &vendor, &product);
    out->id = product << 16 | vendor;
    return text(of(device, "pci.address", key), out->address, sizeof out->address);
}
result nvmlDeviceGetPciInfo_v3(handle device, struct pci *out) { dawdle(__func__); return pci(device, out); }

static const char *peer(handle device, u32 link) {
    char key[WIDTH], part[64];
    snprintf(part, sizeof part, "nvlinks.%u", link);
    return find(of(device, part, key));
}
result nvmlDeviceGetNvLinkState(handle device, u32 link, u32 *out) {
    dawdle(__func__);
    *out = 1;
    return peer(device, link) ? SUCCESS : NOT_SUPPORTED;
}
#ifndef NVML_STUB_OLD
result nvmlDeviceGetNvLinkRemoteDeviceType(handle device, u32 link, u32 *out) {
    dawdle(__func__);
    const char *other = peer(device, link);
    if (!other) return NOT_SUPPORTED;
    *out = strcmp(other, "switch") ? 0 : 2;
    return SUCCESS;
}
#endif
result nvmlDeviceGetNvLinkRemotePciInfo_v2(handle device, u32 link, struct pci *out) {
    dawdle(__func__);
    const char *other = peer(device, link);
    memset(out, 0, sizeof *out);
    if (!other) return NOT_SUPPORTED;
    snprintf(out->address, sizeof out->address, "%s", other);
    return SUCCESS;
}

struct process { u32 pid; u64 used; u32 instance, compute; };
result nvmlDeviceGetComputeRunningProcesses_v3(handle device, u32 *count, struct process *out) {
    dawdle(__func__);
    char key[WIDTH], part[64], value[WIDTH];
    u32 room = *count, found = 0;
    result status = text(of(device, "processes", key), value, sizeof value);
    if (status != NOT_SUPPORTED || find(key)) return status;
    for (; found < 64; found++) {
        u64 pid = 0, used = ~0ULL;
        snprintf(part, sizeof part, "processes.%u.pid", found);
        if (number(of(device, part, key), &pid) != SUCCESS) break;
        snprintf(part, sizeof part, "processes.%u.used", found);
        number(of(device, part, key), &used);
        if (out && found < room) out[found] = (struct process){(u32)pid, used, 0, 0};
    }
    *count = found;
    if (!found) return SUCCESS;
    return out && room >= found ? SUCCESS : TOO_SMALL;
}
result nvmlDeviceGetGraphicsRunningProcesses_v3(handle device, u32 *count, struct process *out) {
    dawdle(__func__);
    (void)device;
    (void)out;
    *count = 0;
    return SUCCESS;
}
result nvmlSystemGetProcessName(u32 pid, char *out, u32 size) {
    dawdle(__func__);
    char wanted[32];
    snprintf(wanted, sizeof wanted, "%u", pid);
    for (int i = 0; i < lines; i++) {
        size_t length = strlen(keys[i]);
        if (strstr(keys[i], ".processes.") && length > 4 && !strcmp(keys[i] + length - 4, ".pid") &&
            !strcmp(values[i], wanted)) {
            char key[WIDTH];
            snprintf(key, sizeof key, "%.*s.name", (int)length - 4, keys[i]);
            return text(key, out, size);
        }
    }
    return NOT_FOUND;
}
