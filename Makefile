# `make` leaves libdlmalloc_nonreuse.so and the launcher nonreuse here. CMake and Ninja do the work.
#
#   make [CC=clang] [LD=ld.lld] [DEBUG=0|1] [SETTING=value ...]
#   make test | demo | install | clean | format | tidy | check | fuzz | soak | bench
#
# Every compile-time setting of include/dlmalloc_nonreuse.h may be given on the command line or in the
# environment. Each combination of compiler, linker and settings has its own folder under build/.
SHELL := /bin/bash
.DEFAULT_GOAL := all

SETTINGS := USE_LOCKS USE_SPIN_LOCKS USE_RECURSIVE_LOCKS HAVE_MMAP MAX_RELEASE_CHECK_RATE FREEBUF_MODE \
  DEFAULT_FREEBUF_PERCENT DEFAULT_SWEEP_SIZE SWEEP_STATS MALLOC_UTRACE DEBUG NONREUSE_STATIC_HEAP_BYTES

given = $(filter-out undefined default,$(origin $(1)))

# CC alone is enough: the C++ compiler is the one that belongs to it.
ifneq ($(call given,CC),)
  c_compiler := $(CC)
else
  c_compiler := $(if $(shell command -v gcc),gcc,cc)
endif
ifneq ($(call given,CXX),)
  cxx_compiler := $(CXX)
else
  cc_name := $(notdir $(c_compiler))
  cc_dir := $(patsubst %$(cc_name),%,$(c_compiler))
  ifneq ($(findstring clang,$(cc_name)),)
    cxx_compiler := $(cc_dir)$(subst clang,clang++,$(cc_name))
  else ifneq ($(findstring gcc,$(cc_name)),)
    cxx_compiler := $(cc_dir)$(subst gcc,g++,$(cc_name))
  else
    cxx_compiler := c++
  endif
endif
# LD=ld.lld, ld.gold, ld.bfd, ld.mold, mold or just ld
linker := $(if $(call given,LD),$(patsubst ld.%,%,$(filter-out ld,$(notdir $(LD)))))

settings := $(foreach s,$(SETTINGS),$(if $(call given,$(s)),-D$(s)=$($(s))))
configuration := $(strip $(settings) $(if $(linker),-DNONREUSE_LINKER=$(linker)) $(CMAKE_ARGS))
build_name := $(notdir $(cxx_compiler))$(if $(configuration),-$(shell echo '$(configuration)' | cksum | cut -d' ' -f1))
BUILD ?= build/$(build_name)
PREFIX ?= /usr/local
JOBS ?= $(shell nproc 2>/dev/null || echo 2)

.PHONY: all library tests clean install demo test check format tidy fuzz soak bench build-dir

all:
	@for tool in cmake ninja '$(cxx_compiler)'; do command -v "$$tool" >/dev/null || \
	  { echo "make: $$tool is missing; run scripts/setup" >&2; exit 1; }; done
	@if [ ! -f $(BUILD)/build.ninja ]; then \
	  cmake -S . -B $(BUILD) -G Ninja -DCMAKE_C_COMPILER='$(c_compiler)' -DCMAKE_CXX_COMPILER='$(cxx_compiler)' \
	    -DCMAKE_INSTALL_PREFIX='$(PREFIX)' -DNONREUSE_TESTS=OFF -DNONREUSE_BENCH=OFF $(configuration) \
	    || { rm -f $(BUILD)/build.ninja $(BUILD)/CMakeCache.txt; exit 1; }; fi
	@flock $(BUILD)/.lock cmake --build $(BUILD) -j $(JOBS)
	@for file in libdlmalloc_nonreuse.so libnonreuse_stacks.so nonreuse; do new=.$$file.new.$$$$; \
	  [ -f $(BUILD)/$$file ] || continue; cmp -s $(BUILD)/$$file $$file || \
	    { cp $(BUILD)/$$file $$new && mv -f $$new $$file; } || { rm -f $$new; exit 1; }; done

# Where the artifacts of these settings are.
build-dir:
	@echo $(BUILD)

install: all
	cmake --install $(BUILD) --prefix '$(PREFIX)'

clean:
	rm -rf build libdlmalloc_nonreuse.so libnonreuse_stacks.so nonreuse

demo:
	scripts/demo
test:
	scripts/test
check:
	scripts/check-layers --self-test
	scripts/check-layers
	scripts/check-files
format:
	scripts/format
tidy:
	scripts/tidy
fuzz:
	scripts/fuzz
soak:
	scripts/soak
bench:
	scripts/bench
