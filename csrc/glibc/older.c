/* Lets what is linked with this run on glibc 2.28 (manylinux_2_28), whatever glibc is on the machine that builds.
 *
 * A linker takes the newest version of every symbol, so a library that calls pow() on a newer machine refuses to
 * load on an older one, although both have it. cmake/glibc.cmake reads the names below and links with --wrap for
 * each: calls, those of the C++ library that is linked in too, come here and go on to the version named. For
 * x86-64. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

/* clang-format off */
#define OLDER(name, version) \
  __asm__(".symver old_" #name "," #name "@GLIBC_" #version "\n" \
          ".section .text.older." #name ",\"ax\",@progbits\n" \
          ".globl __wrap_" #name "\n" \
          ".hidden __wrap_" #name "\n" \
          ".type __wrap_" #name ", @function\n" \
          "__wrap_" #name ": endbr64\n" \
          "jmp *old_" #name "@GOTPCREL(%rip)\n" \
          ".size __wrap_" #name ", .-__wrap_" #name "\n" \
          ".text\n");
/* clang-format on */
#define OURS(result, name, parameters)                                   \
  __attribute__((visibility("hidden"))) result __wrap_##name parameters; \
  result __wrap_##name parameters

/* 2.29: the same values; what changed is how errors are told. */
OLDER(exp, 2.2.5)
OLDER(exp2, 2.2.5)
OLDER(log, 2.2.5)
OLDER(log2, 2.2.5)
OLDER(pow, 2.2.5)

/* 2.34 moved these from libpthread to libc. The C library uses none of the first ones. */
OLDER(pthread_getspecific, 2.2.5)
OLDER(pthread_join, 2.2.5)
OLDER(pthread_key_create, 2.2.5)
OLDER(pthread_key_delete, 2.2.5)
OLDER(pthread_setspecific, 2.2.5)

/* These may be missing: in a program without libpthread, on a glibc before 2.34. It has one thread, and gets no more. */
#define MAYBE(name, parameters)                                      \
  __asm__(".symver old_" #name "," #name "@GLIBC_2.2.5");            \
  __attribute__((weak)) int old_##name parameters;                   \
  OURS(int, name, parameters)
MAYBE(__pthread_key_create, (pthread_key_t * key, void (*end)(void*))) {
  return old___pthread_key_create == NULL ? EAGAIN : old___pthread_key_create(key, end);
}
MAYBE(pthread_create, (pthread_t * thread, const pthread_attr_t* how, void* (*run)(void*), void* with)) {
  return old_pthread_create == NULL ? EAGAIN : old_pthread_create(thread, how, run, with);
}
MAYBE(pthread_detach, (pthread_t thread)) {
  return old_pthread_detach == NULL ? ESRCH : old_pthread_detach(thread);
}
MAYBE(pthread_mutex_trylock, (pthread_mutex_t * mutex)) {
  return old_pthread_mutex_trylock == NULL ? 0 : old_pthread_mutex_trylock(mutex);
}
MAYBE(pthread_once, (pthread_once_t * once, void (*run)(void))) {
  if (old_pthread_once != NULL) return old_pthread_once(once, run);
  if (*once == PTHREAD_ONCE_INIT) {
    *once = PTHREAD_ONCE_INIT + 2; /* as glibc marks it done */
    run();
  }
  return 0;
}

#ifdef FACETALK_WITH_CUDA /* what the static CUDA runtime needs beside them */
OLDER(dlclose, 2.2.5)
OLDER(dlerror, 2.2.5)
OLDER(dlmopen, 2.3.4)
OLDER(dlopen, 2.2.5)
OLDER(dlsym, 2.2.5)
OLDER(dlvsym, 2.2.5)
OLDER(pthread_condattr_setpshared, 2.2.5)
OLDER(pthread_kill, 2.2.5)
OLDER(pthread_mutexattr_destroy, 2.2.5)
OLDER(pthread_mutexattr_init, 2.2.5)
OLDER(pthread_mutexattr_setpshared, 2.2.5)
OLDER(pthread_mutexattr_settype, 2.2.5)
OLDER(pthread_rwlock_destroy, 2.2.5)
OLDER(pthread_rwlock_init, 2.2.5)
OLDER(pthread_rwlock_rdlock, 2.2.5)
OLDER(pthread_rwlock_timedrdlock, 2.2.5)
OLDER(pthread_rwlock_timedwrlock, 2.2.5)
OLDER(pthread_rwlock_tryrdlock, 2.2.5)
OLDER(pthread_rwlock_trywrlock, 2.2.5)
OLDER(pthread_rwlock_unlock, 2.2.5)
OLDER(pthread_rwlock_wrlock, 2.2.5)
OLDER(pthread_rwlockattr_destroy, 2.2.5)
OLDER(pthread_rwlockattr_init, 2.2.5)
OLDER(pthread_rwlockattr_setpshared, 2.2.5)
OLDER(pthread_spin_destroy, 2.2.5)
OLDER(pthread_spin_init, 2.2.5)
OLDER(pthread_spin_lock, 2.2.5)
OLDER(pthread_spin_trylock, 2.2.5)
OLDER(pthread_spin_unlock, 2.2.5)
OLDER(sem_destroy, 2.2.5)
OLDER(sem_init, 2.2.5)
OLDER(sem_post, 2.2.5)
OLDER(sem_timedwait, 2.2.5)
OLDER(sem_trywait, 2.2.5)
OLDER(sem_wait, 2.2.5)
OLDER(shm_open, 2.2.5)
OLDER(shm_unlink, 2.2.5)
#endif

/* 2.33 made functions of these; before, they were macros over these with the version of the structure, 1. */
__asm__(".symver old_xstat,__xstat@GLIBC_2.2.5");
__asm__(".symver old_fxstat,__fxstat@GLIBC_2.2.5");
int old_xstat(int version, const char* path, struct stat* about);
int old_fxstat(int version, int file, struct stat* about);
OURS(int, stat, (const char* path, struct stat* about)) { return old_xstat(1, path, about); }
OURS(int, fstat, (int file, struct stat* about)) { return old_fxstat(1, file, about); }

/* 2.36: what the C++ library takes for std::random_device. */
OURS(unsigned int, arc4random, (void)) {
  unsigned int value = 0;
  while (getentropy(&value, sizeof value) != 0) {
  }
  return value;
}

/* 2.32: whether the C++ library may leave out atomic operations. Not here: others start threads too. */
__attribute__((visibility("hidden"))) char __libc_single_threaded = 0;

/* 2.35: where the unwinder of GCC 12 and newer finds a function's frames; by the program headers, as older ones
 * do. */
struct search {
  const char* address;
  struct dl_find_object* found;
};

static int search_object(struct dl_phdr_info* info, size_t size, void* data) {
  struct search* search = data;
  int holds = 0;
  void* frames = NULL;
  (void)size;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)* part = &info->dlpi_phdr[i];
    const char* start = (const char*)info->dlpi_addr + part->p_vaddr;
    if (part->p_type == PT_LOAD && search->address >= start && search->address < start + part->p_memsz)
      holds = 1;
    if (part->p_type == PT_GNU_EH_FRAME) frames = (void*)start;
  }
  if (!holds || frames == NULL) return 0;
  search->found->dlfo_eh_frame = frames;
  return 1;
}

OURS(int, _dl_find_object, (void* address, struct dl_find_object* found)) {
  struct search search = {address, found};
  memset(found, 0, sizeof *found);
  return dl_iterate_phdr(search_object, &search) == 1 ? 0 : -1;
}
