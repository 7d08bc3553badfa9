// Loads a GGUF in llama.cpp under the options of each line of the standard input, and prints what it logs.
//
//   probe MODEL.gguf < cases        a case: "n_ctx=4096 n_ubatch=512 type_k=8 devices=2 n_gpu_layers=99 ..."
//
// Devices hold nothing (null_device.c). They can be registered once in a process, so every case of one run names the
// same `devices`. The model is loaded again where an option of the model changes; `override=PATTERN` keeps tensors
// whose name matches on the host.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ggml-backend.h"
#include "llama.h"
#include "null_device.h"

static void keep(enum ggml_log_level level, const char * text, void * user) {
    (void) level; (void) user;
    if (strstr(text, " size ") || strstr(text, "rror") || strstr(text, "fail") || strstr(text, "missing")) {
        fputs(text, stdout);
    }
}

static const char * option(const char * line, const char * name) {
    static char value[4096];
    size_t length = strlen(name);
    for (const char * at = line; (at = strstr(at, name)) != NULL; at += length) {
        if ((at == line || at[-1] == ' ') && at[length] == '=') {
            size_t width = strcspn(at + length + 1, " \n");
            memcpy(value, at + length + 1, width);
            value[width] = '\0';
            return value;
        }
    }
    return NULL;
}

static long number(const char * line, const char * name, long otherwise) {
    const char * found = option(line, name);
    return found ? strtol(found, NULL, 10) : otherwise;
}

static int numbers(const char * text, long * into, int most) {
    int count = 0;
    while (text && *text && count < most) {
        char * end;
        into[count++] = strtol(text, &end, 10);
        text = *end ? end + 1 : end;
    }
    return count;
}

int main(int argc, char ** argv) {
    if (argc != 2) {
        fprintf(stderr, "usage: probe MODEL.gguf < cases\n");
        return 2;
    }
    char line[8192], loaded[8192] = "";
    struct llama_model * model = NULL;
    int started = 0;
    while (fgets(line, sizeof line, stdin)) {
        printf("\nCASE %s", line);
        if (!started) {
            long gib[32];
            int devices = numbers(option(line, "devices"), gib, 32);
            llama_log_set(keep, NULL);
            llama_backend_init();
            null_devices_register(devices, gib);
            started = 1;
        }
        char key[8192];
        long split[32] = { 0 };
        char pattern[4096] = "";
        const char * given = option(line, "override");
        if (given) {
            snprintf(pattern, sizeof pattern, "%s", given);
        }
        int parts = numbers(option(line, "tensor_split"), split, 32);
        snprintf(key, sizeof key, "%ld/%s/%d,%ld,%ld,%ld", number(line, "n_gpu_layers", 0), pattern, parts, split[0],
                 split[1], split[2]);
        if (!model || strcmp(key, loaded) != 0) {
            if (model) {
                llama_model_free(model);
            }
            float shares[128] = { 0 };
            for (int i = 0; i < parts; ++i) {
                shares[i] = (float) split[i];
            }
            struct llama_model_params options = llama_model_default_params();
#ifdef PROBE_OVERRIDES
            struct llama_model_tensor_buft_override overrides[] = {
                { pattern, ggml_backend_cpu_buffer_type() },
                { NULL, NULL },
            };
            options.tensor_buft_overrides = pattern[0] ? overrides : NULL;
#endif
            options.n_gpu_layers = (int32_t) number(line, "n_gpu_layers", 0);
            options.tensor_split = parts ? shares : NULL;
#ifdef PROBE_EXTRA_BUFTS
            options.use_extra_bufts = false;
#endif
            model = llama_model_load_from_file(argv[1], options);
            snprintf(loaded, sizeof loaded, "%s", key);
            if (!model) {
                printf("\nFAILED\n");
                return 1;
            }
        }
        struct llama_context_params options = llama_context_default_params();
        options.n_ctx = (uint32_t) number(line, "n_ctx", 4096);
        options.n_batch = (uint32_t) number(line, "n_batch", 2048);
        options.n_ubatch = (uint32_t) number(line, "n_ubatch", 512);
        options.n_seq_max = (uint32_t) number(line, "n_seq_max", 1);
        options.type_k = (enum ggml_type) number(line, "type_k", 1);
        options.type_v = (enum ggml_type) number(line, "type_v", 1);
        options.embeddings = number(line, "embeddings", 0) != 0;
        options.offload_kqv = number(line, "offload_kqv", 1) != 0;
#ifdef PROBE_FLASH_TYPE
        options.flash_attn_type = (enum llama_flash_attn_type) number(line, "flash", 1);
#else
        options.flash_attn = number(line, "flash", 1) != 0;
#endif
#ifdef PROBE_SWA_FULL
        options.swa_full = number(line, "swa_full", 0) != 0;
#endif
#ifdef PROBE_UNIFIED
        options.kv_unified = number(line, "kv_unified", 0) != 0;
#endif
#ifdef PROBE_OUTPUTS
        options.n_outputs_max = (uint32_t) number(line, "n_outputs_max", 0);
#endif
        printf("\nCONTEXT\n");
        struct llama_context * context = llama_init_from_model(model, options);
        printf("\nEND %d\n", context != NULL);
        if (context) {
            llama_free(context);
        }
        fflush(stdout);
    }
    return 0;
}
