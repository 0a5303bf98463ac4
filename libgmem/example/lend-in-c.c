// SPDX-License-Identifier: MIT OR Apache-2.0
// Lend memory to a guest, without a library: see Documentation/libgmem/other-languages.rst.
#include <fcntl.h>
#include <linux/gmem.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

enum { kSize = 1 << 20 };

static int OrDie(int result, const char* what) {
  if (result < 0) {
    perror(what);
    exit(1);
  }
  return result;
}

static unsigned long long PagesLent(int gmem) {
  struct gmem_stats stats = {.size = sizeof(stats)};
  OrDie(ioctl(gmem, GMEM_STATS, &stats), "GMEM_STATS");
  return stats.lent_pages;
}

int main(void) {
  // A guestmem with an image for the guest.
  const int gmem = OrDie(open("/dev/gmem", O_RDWR | O_CLOEXEC), "/dev/gmem");
  struct gmem_mem_create create = {.size = sizeof(create), .length = kSize, .name = "ram"};
  const int memory = OrDie(ioctl(gmem, GMEM_MEM_CREATE, &create), "GMEM_MEM_CREATE");
  char* host = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
  if (host == MAP_FAILED) OrDie(-1, "mmap of the guestmem");
  strcpy(host, "image");

  // A guest address space, with all of the guestmem lent to address 0.
  struct gmem_vm_create guest = {.size = sizeof(guest), .policy = GMEM_POLICY_ALLOW};
  const int vm = OrDie(ioctl(gmem, GMEM_VM_CREATE, &guest), "GMEM_VM_CREATE");
  struct gmem_vm_map lend = {.size = sizeof(lend),
                             .flags = GMEM_MAP_FORCE_LEND | GMEM_MAP_ALLOW_RWX,
                             .length = kSize,
                             .mem_fd = memory};
  OrDie(ioctl(vm, GMEM_VM_MAP, &lend), "GMEM_VM_MAP");

  // The guest's side of the memory: KVM gets it as a memslot.
  char* window = mmap(NULL, kSize, PROT_READ | PROT_WRITE, MAP_SHARED, vm, 0);
  if (window == MAP_FAILED) OrDie(-1, "mmap of the VM");
  const int kvm = OrDie(open("/dev/kvm", O_RDWR | O_CLOEXEC), "/dev/kvm");
  const int kvm_vm = OrDie(ioctl(kvm, KVM_CREATE_VM, 0), "KVM_CREATE_VM");
  struct kvm_userspace_memory_region slot = {.memory_size = kSize,
                                             .userspace_addr = (uintptr_t)window};
  OrDie(ioctl(kvm_vm, KVM_SET_USER_MEMORY_REGION, &slot), "KVM_SET_USER_MEMORY_REGION");

  // An access through the window is the guest's, as an instruction of the guest's is.
  printf("the guest finds: %s, ", window);
  printf("pages lent: %llu\n", PagesLent(gmem));
  struct gmem_vm_range all = {.size = sizeof(all), .length = kSize};
  OrDie(ioctl(vm, GMEM_VM_RECLAIM, &all), "GMEM_VM_RECLAIM");
  printf("taken back: %llu, pages lent: %llu\n", (unsigned long long)all.nr_pages, PagesLent(gmem));
}
