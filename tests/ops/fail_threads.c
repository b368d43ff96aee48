/* Preloaded by test_parallel.py: threads beyond FAIL_THREADS_AFTER cannot be started, as where a container's limit
   is reached. Threads that run already stay. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) {
  static int started = 0;
  static int (*real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*) = NULL;
  const char* most = getenv("FAIL_THREADS_AFTER");
  if (real == NULL) *(void**)&real = dlsym(RTLD_NEXT, "pthread_create");
  if (most != NULL && __atomic_fetch_add(&started, 1, __ATOMIC_SEQ_CST) >= atoi(most)) return EAGAIN;
  return real(thread, attributes, start, argument);
}
