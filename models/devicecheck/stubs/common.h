/* What every stub library begins with. A stub answers 0, success, and does nothing. */
#include <stdlib.h>
#include <string.h>

static void *host_memory(size_t size) { return aligned_alloc(512, (size + 511) / 512 * 512); }

/* What names without an answer of their own are aliases of. */
long stub_nothing() { return 0; }
int stub_creates(void **handle) { *handle = (void *)0x1000; return 0; }  /* a handle as the first argument */
void *stub_constructs(void *object) { memset(object, 0, 16); return object; }  /* a C++ object of one shared_ptr */
void *stub_constructs_larger(void *object) { memset(object, 0, 24); return object; }

/* Functions that return, or store, a handle nobody looks into but free() may be given. */
#define RETURNS_HANDLE(name) void *name() { return malloc(64); }
#define STORES_HANDLE(name) int name(void **handle) { *handle = malloc(64); return 0; }
