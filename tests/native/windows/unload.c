/* A program that lets go of the DLL, as an editor does with its plugins: unload FACETALK_DLL
 * Without threads it goes; once it has threads that wait for work, it has to stay. */
#include <facetalk.h>
#include <stdio.h>
#include <windows.h>

enum { SIDE = 96 };

int main(int argc, char **argv) {
  static float volume[SIDE * SIDE * SIDE];
  if (argc != 2) return 2;
  for (int i = 0; i < SIDE * SIDE * SIDE; ++i) volume[i] = (float)(i % 101 * 7919 % 101) - 50.0f;
  for (int threads = 1; threads <= 4; threads += 3) {
    HMODULE dll = LoadLibraryA(argv[1]);
    if (dll == NULL) return 3;
    facetalk_status (*set_threads)(int32_t) = (facetalk_status(*)(int32_t))(void *)GetProcAddress(dll, "facetalk_set_threads");
    facetalk_status (*cubes)(const float *, int64_t, int64_t, int64_t, float, facetalk_mesh **) =
        (facetalk_status(*)(const float *, int64_t, int64_t, int64_t, float, facetalk_mesh **))(void *)GetProcAddress(
            dll, "facetalk_marching_cubes");
    void (*release)(facetalk_mesh *) = (void (*)(facetalk_mesh *))(void *)GetProcAddress(dll, "facetalk_mesh_free");
    facetalk_mesh *mesh;
    if (set_threads(threads) != FACETALK_OK || cubes(volume, SIDE, SIDE, SIDE, 0.0f, &mesh) != FACETALK_OK) return 4;
    release(mesh);
    FreeLibrary(dll);
    printf("%d: %s\n", threads, GetModuleHandleA("facetalk.dll") == NULL ? "gone" : "there");
    Sleep(50);
  }
  return 0;
}
