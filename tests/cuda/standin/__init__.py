"""A stand-in for a CUDA device, for tests of what needs one where there is none.

memory.py    memory that torch believes to lie on cuda:0, with guards and poison
dispatch.py  torch's operations on it, by the CPU; what waits for the device; recording of graphs
api.py       torch.cuda: streams, events, graphs
order.py     which work on streams comes after which
core.py      the extension's CUDA functions over emulated kernels (tests/cuda/emulate), a guard before each
plugin.py    all of that for one run of pytest
build.py     compiles it and starts such a run: python tests/cuda/standin/build.py FOLDER, pytest's arguments
guard.cpp, accelerator.cpp, core.cpp, core_field.cpp: what it takes of C++

It shows mistakes of Python on devices: tensors on the wrong one, streams not passed on, memory freed too
soon, waiting while a graph is captured, streams that do not wait for each other, sizes and units of
benchmarks. It shows nothing about time or hardware.
"""
