/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of the gunyah provider: its calls to the hypervisor and to the
 * Resource Manager (RM).
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM gmem_gunyah

#if !defined(_GMEM_GUNYAH_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _GMEM_GUNYAH_TRACE_H

#include <linux/arm-smccc.h>
#include <linux/tracepoint.h>

#define show_gunyah_hypercall(nr)					\
	__print_symbolic(nr,						\
			 { 0x12, "doorbell_send" },			\
			 { 0x15, "doorbell_mask" },			\
			 { 0x1b, "msgqueue_send" },			\
			 { 0x1c, "msgqueue_receive" },			\
			 { 0x2b, "addrspace_map" },			\
			 { 0x2c, "addrspace_unmap" },			\
			 { 0x30, "memextent_modify" },			\
			 { 0x61, "memextent_donate" },			\
			 { 0x65, "vcpu_run" })

#define show_gunyah_message(id)						\
	__print_symbolic(id,						\
			 { 0x51000012, "MEM_LEND" },			\
			 { 0x51000013, "MEM_SHARE" },			\
			 { 0x51000015, "MEM_RECLAIM" },			\
			 { 0x51000018, "MEM_APPEND" },			\
			 { 0x56000001, "VM_ALLOC_VMID" },		\
			 { 0x56000002, "VM_DEALLOC_VMID" },		\
			 { 0x56000004, "VM_START" },			\
			 { 0x56000005, "VM_STOP" },			\
			 { 0x56000006, "VM_RESET" },			\
			 { 0x56000009, "VM_CONFIG_IMAGE" },		\
			 { 0x5600000b, "VM_INIT" },			\
			 { 0x56000020, "VM_GET_HYP_RESOURCES" },	\
			 { 0x56000024, "VM_GET_VMID" },			\
			 { 0x56000031, "VM_SET_BOOT_CONTEXT" },		\
			 { 0x56000033, "VM_SET_DEMAND_PAGING" },	\
			 { 0x56000034, "VM_SET_ADDRESS_LAYOUT" },	\
			 { 0x56100001, "VM_EXITED" },			\
			 { 0x56100002, "VM_SHUTDOWN" },			\
			 { 0x56100008, "VM_STATUS" })

TRACE_EVENT(gmem_gunyah_hypercall,
	TP_PROTO(u32 nr, const struct arm_smccc_1_2_regs *args,
		 const struct arm_smccc_1_2_regs *res),
	TP_ARGS(nr, args, res),
	TP_STRUCT__entry(
		__field(u32, nr)
		__field(s64, error)
		__array(u64, args, 7)
		__array(u64, results, 4)
	),
	TP_fast_assign(
		__entry->nr = nr;
		__entry->error = res->a0;
		__entry->args[0] = args->a1;
		__entry->args[1] = args->a2;
		__entry->args[2] = args->a3;
		__entry->args[3] = args->a4;
		__entry->args[4] = args->a5;
		__entry->args[5] = args->a6;
		__entry->args[6] = args->a7;
		__entry->results[0] = res->a1;
		__entry->results[1] = res->a2;
		__entry->results[2] = res->a3;
		__entry->results[3] = res->a4;
	),
	TP_printk("%s(%llx, %llx, %llx, %llx, %llx, %llx, %llx) error=%lld results=%llx, %llx, %llx, %llx",
		  show_gunyah_hypercall(__entry->nr), __entry->args[0],
		  __entry->args[1], __entry->args[2], __entry->args[3],
		  __entry->args[4], __entry->args[5], __entry->args[6],
		  __entry->error, __entry->results[0], __entry->results[1],
		  __entry->results[2], __entry->results[3])
);

/* A whole remote procedure call, with its result @err. */
TRACE_EVENT(gmem_gunyah_rpc,
	TP_PROTO(u32 message, u16 seq, size_t size, u32 rm_error, int err),
	TP_ARGS(message, seq, size, rm_error, err),
	TP_STRUCT__entry(
		__field(u32, message)
		__field(u16, seq)
		__field(u32, size)
		__field(u32, rm_error)
		__field(int, err)
	),
	TP_fast_assign(
		__entry->message = message;
		__entry->seq = seq;
		__entry->size = size;
		__entry->rm_error = rm_error;
		__entry->err = err;
	),
	TP_printk("%s seq=%u size=%u rm_error=%u err=%d",
		  show_gunyah_message(__entry->message), __entry->seq,
		  __entry->size, __entry->rm_error, __entry->err)
);

TRACE_EVENT(gmem_gunyah_notification,
	TP_PROTO(u32 message, size_t size),
	TP_ARGS(message, size),
	TP_STRUCT__entry(
		__field(u32, message)
		__field(u32, size)
	),
	TP_fast_assign(
		__entry->message = message;
		__entry->size = size;
	),
	TP_printk("%s size=%u", show_gunyah_message(__entry->message),
		  __entry->size)
);

#endif /* _GMEM_GUNYAH_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
