// SPDX-License-Identifier: MIT OR Apache-2.0
// Lend memory to a guest, in Rust without a crate: see Documentation/libgmem/other-languages.rst.
use std::ffi::{c_void, CStr};
use std::fs::{File, OpenOptions};
use std::io::{Error, Result};
use std::os::raw::{c_int, c_ulong};
use std::os::unix::io::{AsRawFd, FromRawFd};

extern "C" {
    fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    fn mmap(
        at: *mut c_void,
        size: usize,
        prot: c_int,
        flags: c_int,
        fd: c_int,
        offset: i64,
    ) -> *mut c_void;
}

// What <linux/gmem.h> defines. _IO() has no direction and no size.
const fn io(number: c_ulong) -> c_ulong {
    (b'G' as c_ulong) << 8 | number
}
const GMEM_VM_CREATE: c_ulong = io(0x81);
const GMEM_STATS: c_ulong = io(0x82);
const GMEM_MEM_CREATE: c_ulong = io(0x84);
const GMEM_VM_RECLAIM: c_ulong = io(0x91);
const GMEM_VM_MAP: c_ulong = io(0x9b);
const GMEM_MAP_FORCE_LEND: u32 = 1;
const GMEM_MAP_ALLOW_RWX: u32 = 0x70;

const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
const SIZE: u64 = 1 << 20;

// Each struct begins with its own size.
#[repr(C)]
struct MemCreate {
    size: u32,
    flags: u32,
    length: u64,
    name: [u8; 32],
    numa_mode: u32,
    nr_nodes: u32,
    nodes: u64,
    cgroup_fd: i32,
    reserved: u32,
}

#[repr(C)]
struct VmCreate {
    size: u32,
    flags: u32,
    provider_name: [u8; 16],
    policy: u32,
    guest_addr_bits: u32,
    name: [u8; 32],
}

#[repr(C)]
struct VmMap {
    size: u32,
    flags: u32,
    guest_addr: u64,
    offset: u64,
    length: u64,
    mem_fd: i32,
    policy: u32,
}

#[repr(C)]
struct VmRange {
    size: u32,
    flags: u32,
    guest_addr: u64,
    length: u64,
    nr_pages: u64,
}

#[repr(C)]
struct Stats {
    size: u32,
    flags: u32,
    vms: u64,
    mems: u64,
    bindings: u64,
    lent_pages: u64,
    leaked_pages: u64,
    lends: u64,
    reclaims: u64,
    refused: u64,
}

/// An argument of zeroes, as C's initializers make it. All its fields are numbers.
fn argument<T>() -> (T, u32) {
    (
        unsafe { std::mem::zeroed() },
        std::mem::size_of::<T>() as u32,
    )
}

/// A call of the module, whose result is a descriptor or 0.
fn call<T>(file: &File, request: c_ulong, argument: &mut T) -> Result<c_int> {
    match unsafe { ioctl(file.as_raw_fd(), request, argument as *mut T) } {
        result if result < 0 => Err(Error::last_os_error()),
        result => Ok(result),
    }
}

/// The same, for a call that creates an object.
fn create<T>(file: &File, request: c_ulong, argument: &mut T) -> Result<File> {
    Ok(unsafe { File::from_raw_fd(call(file, request, argument)?) })
}

fn map(file: &File) -> Result<*mut u8> {
    let (any, size) = (std::ptr::null_mut(), SIZE as usize);
    let at = unsafe { mmap(any, size, PROT_READ_WRITE, MAP_SHARED, file.as_raw_fd(), 0) };
    if at as isize == -1 {
        return Err(Error::last_os_error());
    }
    Ok(at as *mut u8)
}

fn pages_lent(gmem: &File) -> Result<u64> {
    let (mut stats, size) = argument::<Stats>();
    stats.size = size;
    call(gmem, GMEM_STATS, &mut stats)?;
    Ok(stats.lent_pages)
}

fn main() -> Result<()> {
    // A guestmem with an image for the guest.
    let gmem = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/gmem")?;
    let (mut ram, size) = argument::<MemCreate>();
    (ram.size, ram.length) = (size, SIZE);
    ram.name[..3].copy_from_slice(b"ram");
    let memory = create(&gmem, GMEM_MEM_CREATE, &mut ram)?;
    unsafe { map(&memory)?.copy_from(b"image\0".as_ptr(), 6) };

    // A guest address space, with all of the guestmem lent to address 0.
    let (mut guest, size) = argument::<VmCreate>();
    guest.size = size;
    let vm = create(&gmem, GMEM_VM_CREATE, &mut guest)?;
    let (mut lend, size) = argument::<VmMap>();
    (lend.size, lend.length, lend.mem_fd) = (size, SIZE, memory.as_raw_fd());
    lend.flags = GMEM_MAP_FORCE_LEND | GMEM_MAP_ALLOW_RWX;
    call(&vm, GMEM_VM_MAP, &mut lend)?;

    // The guest's side of the memory. A VMM gives this address to KVM, as a memslot.
    let window = map(&vm)?;

    // An access through the window is the guest's, as an instruction of the guest's is.
    let found = unsafe { CStr::from_ptr(window as *const _) }.to_string_lossy();
    println!(
        "the guest finds: {}, pages lent: {}",
        found,
        pages_lent(&gmem)?
    );
    let (mut all, size) = argument::<VmRange>();
    (all.size, all.length) = (size, SIZE);
    call(&vm, GMEM_VM_RECLAIM, &mut all)?;
    println!(
        "taken back: {}, pages lent: {}",
        all.nr_pages,
        pages_lent(&gmem)?
    );
    Ok(())
}
