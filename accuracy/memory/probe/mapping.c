// Keeps files and caches from taking memory.
//
// llama.cpp asks for every page of the file at once (MAP_POPULATE, posix_madvise) and clears the cache it has just
// allocated: a sparse model of hundreds of gigabytes would fill the page cache, a long context the memory, both with
// zeros. The calls are intercepted here (glibc), since the executable's symbols come before the C library's: files are
// mapped without reading ahead, large buffers are address space without pages, and clearing them does nothing.

#define _GNU_SOURCE
#include <errno.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FRESH_BYTES (64u << 20)  // from here on, buffers are address space of our own
#define MAX_BUFFERS 256

extern void * __libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void * block);

static struct { void * base; size_t size; } buffers[MAX_BUFFERS];

int posix_memalign(void ** into, size_t alignment, size_t size) {
    *into = NULL;
    for (int i = 0; size >= FRESH_BYTES && i < MAX_BUFFERS; ++i) {
        if (!buffers[i].base) {
            void * base = (void *) syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE,
                                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (base == MAP_FAILED) {
                return ENOMEM;
            }
            buffers[i].base = *into = base;
            buffers[i].size = size;
            return 0;
        }
    }
    *into = __libc_memalign(alignment, size);
    return *into ? 0 : ENOMEM;
}

void free(void * block) {
    for (int i = 0; block && i < MAX_BUFFERS; ++i) {
        if (buffers[i].base == block) {
            munmap(block, buffers[i].size);
            buffers[i].base = NULL;
            return;
        }
    }
    __libc_free(block);
}

void * mmap(void * address, size_t length, int protection, int flags, int file, off_t offset) {
    return (void *) syscall(SYS_mmap, address, length, protection, flags & ~MAP_POPULATE, file, offset);
}

int posix_madvise(void * address, size_t length, int advice) {
    (void) address; (void) length; (void) advice;
    return 0;
}

void * memset(void * into, int value, size_t size) {
    if (value == 0 && size >= FRESH_BYTES) {
        return into;
    }
    for (volatile unsigned char * at = into, * end = at + size; at < end; ++at) {
        *at = (unsigned char) value;
    }
    return into;
}
