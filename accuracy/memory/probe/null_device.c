// A ggml backend that accepts every operator and computes none.
//
// Its buffers are address space without pages, so models of any size load in no time, and llama.cpp splits graph,
// weights and cache over the devices and reserves compute buffers exactly as it does for CUDA: the properties below
// (alignment, row padding, asynchronous copies, events, pinned host memory, offload of large batches) are those that
// ggml-cuda.cu states.

#include "null_device.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ggml-backend-impl.h"

#define MAX_DEVICES 32
#define ALIGNMENT 128         // of CUDA's buffer type
#define ROW_PADDING 512       // MATRIX_ROW_PADDING of ggml-cuda
#define OFFLOAD_MIN_BATCH 32  // rows from which a weight in host memory is copied over

static int n_devices;
static size_t memory_bytes[MAX_DEVICES];
static char names[MAX_DEVICES][16];
static char ids[MAX_DEVICES][16];
static struct ggml_backend_device devices[MAX_DEVICES];
static struct ggml_backend_buffer_type types[MAX_DEVICES];
static struct ggml_backend_buffer_type host_type;
static struct ggml_backend_reg registry;

// --- buffers -------------------------------------------------------------------------------------------------------

static void * address_space(size_t size) {
    void * base = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return base == MAP_FAILED ? NULL : base;
}

static void buffer_free(ggml_backend_buffer_t buffer) { munmap(buffer->context, buffer->size ? buffer->size : 1); }
static void * buffer_base(ggml_backend_buffer_t buffer) { return buffer->context; }
static void buffer_set(ggml_backend_buffer_t b, struct ggml_tensor * t, const void * d, size_t o, size_t s) {
    (void) b; (void) t; (void) d; (void) o; (void) s;
}
static void buffer_memset(ggml_backend_buffer_t b, struct ggml_tensor * t, uint8_t v, size_t o, size_t s) {
    (void) b; (void) t; (void) v; (void) o; (void) s;
}
static void buffer_get(ggml_backend_buffer_t b, const struct ggml_tensor * t, void * d, size_t o, size_t s) {
    (void) b; (void) t; (void) o;
    memset(d, 0, s);
}
static void buffer_clear(ggml_backend_buffer_t b, uint8_t v) { (void) b; (void) v; }

static const struct ggml_backend_buffer_i buffer_interface = {
    .free_buffer = buffer_free,
    .get_base = buffer_base,
    .memset_tensor = buffer_memset,
    .set_tensor = buffer_set,
    .get_tensor = buffer_get,
    .clear = buffer_clear,
};

static ggml_backend_buffer_t type_alloc(ggml_backend_buffer_type_t type, size_t size) {
    void * base = address_space(size);
    return base ? ggml_backend_buffer_init(type, buffer_interface, base, size) : NULL;
}
static const char * type_name(ggml_backend_buffer_type_t type) { return (const char *) type->context; }
static size_t type_alignment(ggml_backend_buffer_type_t type) { (void) type; return ALIGNMENT; }
static size_t type_alloc_size(ggml_backend_buffer_type_t type, const struct ggml_tensor * tensor) {
    (void) type;
    size_t size = ggml_nbytes(tensor);
    if (ggml_is_quantized(tensor->type) && tensor->ne[0] % ROW_PADDING) {
        size += ggml_row_size(tensor->type, ROW_PADDING - tensor->ne[0] % ROW_PADDING);
    }
    return size;
}
static bool type_is_host(ggml_backend_buffer_type_t type) { return type == &host_type; }
static size_t host_alignment(ggml_backend_buffer_type_t type) { (void) type; return 32; }

// --- stream --------------------------------------------------------------------------------------------------------

static const char * stream_name(ggml_backend_t stream) { return ggml_backend_dev_name(stream->device); }
static void stream_free(ggml_backend_t stream) { free(stream); }
static void stream_set(ggml_backend_t b, struct ggml_tensor * t, const void * d, size_t o, size_t s) {
    (void) b; (void) t; (void) d; (void) o; (void) s;
}
static void stream_get(ggml_backend_t b, const struct ggml_tensor * t, void * d, size_t o, size_t s) {
    (void) b; (void) t; (void) o;
    memset(d, 0, s);
}
static bool stream_copy(ggml_backend_t from, ggml_backend_t to, const struct ggml_tensor * a, struct ggml_tensor * b) {
    (void) from; (void) to; (void) a; (void) b;
    return true;
}
static void stream_wait(ggml_backend_t stream) { (void) stream; }
static enum ggml_status stream_compute(ggml_backend_t stream, struct ggml_cgraph * graph) {
    (void) stream; (void) graph;
    return GGML_STATUS_SUCCESS;
}
static void stream_event(ggml_backend_t stream, ggml_backend_event_t event) { (void) stream; (void) event; }

static uint8_t guid[16] = { 'n', 'u', 'l', 'l', ' ', 'd', 'e', 'v', 'i', 'c', 'e', 0, 0, 0, 0, 1 };

// --- device --------------------------------------------------------------------------------------------------------

static int index_of(ggml_backend_dev_t device) { return (int) (device - devices); }
static const char * device_name(ggml_backend_dev_t device) { return names[index_of(device)]; }
static const char * device_description(ggml_backend_dev_t device) { (void) device; return "null device"; }
static void device_memory(ggml_backend_dev_t device, size_t * free, size_t * total) {
    *free = *total = memory_bytes[index_of(device)];
}
static enum ggml_backend_dev_type device_type(ggml_backend_dev_t device) {
    (void) device;
    return GGML_BACKEND_DEVICE_TYPE_GPU;
}
static void device_props(ggml_backend_dev_t device, struct ggml_backend_dev_props * props) {
    memset(props, 0, sizeof *props);
    props->name = device_name(device);
    props->description = device_description(device);
    props->type = GGML_BACKEND_DEVICE_TYPE_GPU;
#ifdef PROBE_DEVICE_IDS
    props->device_id = ids[index_of(device)];
#endif
    device_memory(device, &props->memory_free, &props->memory_total);
    props->caps.async = true;
    props->caps.host_buffer = true;
    props->caps.events = true;
#ifdef PROBE_MMAP_CAP
    props->caps.mmap_support = true;
#endif
}
static ggml_backend_t device_stream(ggml_backend_dev_t device, const char * params) {
    (void) params;
    ggml_backend_t stream = calloc(1, sizeof *stream);
    stream->guid = &guid;
    stream->device = device;
    stream->iface = (struct ggml_backend_i) {
        .get_name = stream_name,
        .free = stream_free,
        .set_tensor_async = stream_set,
        .get_tensor_async = stream_get,
        .cpy_tensor_async = stream_copy,
        .synchronize = stream_wait,
        .graph_compute = stream_compute,
        .event_record = stream_event,
        .event_wait = stream_event,
    };
    return stream;
}
static ggml_backend_buffer_type_t device_buffer_type(ggml_backend_dev_t device) { return &types[index_of(device)]; }
static ggml_backend_buffer_type_t device_host_type(ggml_backend_dev_t device) { (void) device; return &host_type; }
static bool device_supports_op(ggml_backend_dev_t device, const struct ggml_tensor * op) {
    (void) device; (void) op;
    return true;
}
static bool device_supports_type(ggml_backend_dev_t device, ggml_backend_buffer_type_t type) {
    return type == &types[index_of(device)];
}
static bool device_offload(ggml_backend_dev_t device, const struct ggml_tensor * op) {
    (void) device;
    switch (op->op) {
        case GGML_OP_GET_ROWS: return false;
        case GGML_OP_MUL_MAT: return op->ne[1] >= OFFLOAD_MIN_BATCH;
        case GGML_OP_MUL_MAT_ID:
        case GGML_OP_ROPE:
        case GGML_OP_ROPE_BACK: return op->ne[2] >= OFFLOAD_MIN_BATCH;
        default: return ggml_nrows(op) >= OFFLOAD_MIN_BATCH;
    }
}
static ggml_backend_event_t event_new(ggml_backend_dev_t device) {
    ggml_backend_event_t event = calloc(1, sizeof *event);
    event->device = device;
    return event;
}
static void event_free(ggml_backend_dev_t device, ggml_backend_event_t event) { (void) device; free(event); }
static void event_wait(ggml_backend_dev_t device, ggml_backend_event_t event) { (void) device; (void) event; }

// --- registry ------------------------------------------------------------------------------------------------------

static const char * registry_name(ggml_backend_reg_t reg) { (void) reg; return "NULL"; }
static size_t registry_count(ggml_backend_reg_t reg) { (void) reg; return (size_t) n_devices; }
static ggml_backend_dev_t registry_device(ggml_backend_reg_t reg, size_t index) { (void) reg; return &devices[index]; }
static void * registry_address(ggml_backend_reg_t reg, const char * name) { (void) reg; (void) name; return NULL; }

void null_devices_register(int count, const long * gib) {
    n_devices = count < MAX_DEVICES ? count : MAX_DEVICES;
    registry.api_version = GGML_BACKEND_API_VERSION;
    registry.iface = (struct ggml_backend_reg_i) { registry_name, registry_count, registry_device, registry_address };
    host_type.iface = (struct ggml_backend_buffer_type_i) {
        .get_name = type_name, .alloc_buffer = type_alloc, .get_alignment = host_alignment, .is_host = type_is_host,
    };
    host_type.context = (void *) "GPU_Host";
    host_type.device = &devices[0];
    for (int i = 0; i < n_devices; ++i) {
        snprintf(names[i], sizeof names[i], "GPU%d", i);
        snprintf(ids[i], sizeof ids[i], "null:%d", i);
        memory_bytes[i] = (size_t) gib[i] << 30;
        types[i].iface = (struct ggml_backend_buffer_type_i) {
            .get_name = type_name,
            .alloc_buffer = type_alloc,
            .get_alignment = type_alignment,
            .get_alloc_size = type_alloc_size,
        };
        types[i].context = names[i];
        types[i].device = &devices[i];
        devices[i].reg = &registry;
        devices[i].iface = (struct ggml_backend_device_i) {
            .get_name = device_name,
            .get_description = device_description,
            .get_memory = device_memory,
            .get_type = device_type,
            .get_props = device_props,
            .init_backend = device_stream,
            .get_buffer_type = device_buffer_type,
            .get_host_buffer_type = device_host_type,
            .supports_op = device_supports_op,
            .supports_buft = device_supports_type,
            .offload_op = device_offload,
            .event_new = event_new,
            .event_free = event_free,
            .event_synchronize = event_wait,
        };
    }
    if (n_devices > 0) {
        ggml_backend_register(&registry);
    }
}
