"""Pickles as torch writes them, read by a machine that makes tensors and plain containers, and can call nothing else.

Python's own unpickler calls whatever a file names, and with a strict list of names it still recurses, resizes its memory by
numbers from the file and multiplies long lists. Here the standard library only splits the bytes into instructions
(pickletools); what an instruction may do is below, under a limit of bytes and of steps, and nothing recurses.

Sources: pickletools' description of the instructions; torch.save's files for the names that they call.
"""

from __future__ import annotations

import math
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = (
    16 << 20
)  # of one pickle; a training checkpoint of a thousand tensors with its optimiser's takes less than one MB
MAX_STEPS = 1_000_000  # instructions, and items that are copied; a tensor takes about 35
MAX_REPEATED = 1 << 20  # elements of a tensor that repeats a smaller storage


class ForeignObjectError(ValueError):
    """The file names a class or function besides tensors and plain containers: it may be code."""


class Foreign(dict[Any, Any]):
    """Stands for an object of an unknown class and does nothing. It keeps entries that are set, and its state."""

    state: object = None
    __hash__ = object.__hash__  # type: ignore[assignment]  # as a key or in a set it is only itself


@dataclass(frozen=True)
class Storage:
    """The numbers behind tensors, as a pickle refers to them. key: in the file. numel: elements; bytes for uint8."""

    dtype: torch.dtype
    key: str
    numel: int
    offset: int = 0


STORAGES = {
    "HalfStorage": torch.float16, "BFloat16Storage": torch.bfloat16, "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64, "CharStorage": torch.int8, "ShortStorage": torch.int16, "IntStorage": torch.int32,
    "LongStorage": torch.int64, "ByteStorage": torch.uint8, "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64, "ComplexDoubleStorage": torch.complex128, "UntypedStorage": torch.uint8,
}  # fmt: skip
DTYPES = {str(v): v for v in vars(torch).values() if isinstance(v, torch.dtype)}
LIMIT = "its pickled part is larger than any checkpoint's"


@dataclass(frozen=True)
class _Call:
    """A name of the file that may be called, and what is done then."""

    make: Callable[..., Any]


def load_pickle(data: bytes, storage: Callable[[Storage], Tensor], foreign: bool = False) -> tuple[Any, int]:
    """What a pickle at the beginning of `data` holds, and how many bytes it took.

    storage: gives the flat tensor [numel] of a storage. foreign: unknown classes and functions become `Foreign`;
    otherwise they raise ForeignObjectError. Raises ValueError, with a reason that names no file, for anything that is damaged,
    larger than the limits, or no pickle.
    """
    try:
        return _Machine(storage, foreign).run(data)
    except MemoryError:
        raise
    except ValueError as error:
        raise type(error)(line(error)) from None
    except Exception as error:  # a damaged pickle may fail in any way
        raise ValueError(f"its pickled part is damaged: {line(error)}") from None


def line(error: BaseException, limit: int = 120) -> str:
    """What an exception says, on one line and short: some repeat the file's content."""
    text = str(error)[: 4 * limit].strip() or type(error).__name__
    text = text.splitlines()[0]
    return text if len(text) <= limit else text[:limit] + "..."


class _Machine:
    def __init__(self, storage: Callable[[Storage], Tensor], foreign: bool) -> None:
        self.storage, self.foreign = storage, foreign
        self.stack: list[Any] = []  # Any: whatever a pickle can hold
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.steps = 0
        self.calls: dict[str, Callable[..., Any]] = {
            "collections OrderedDict": OrderedDict,
            "collections Counter": Counter,
            "builtins set": set,
            "builtins frozenset": frozenset,
            "builtins complex": complex,
            "builtins bytearray": bytearray,
            "_codecs encode": lambda text, coding: _text(text).encode({"latin1": "latin1"}.get(coding, "utf-8")),
            "torch Size": tuple,
            "torch device": torch.device,
            "torch._utils _rebuild_tensor": self.tensor,
            "torch._utils _rebuild_tensor_v2": self.tensor,
            "torch._utils _rebuild_tensor_v3": self.tensor_of_dtype,
            "torch._utils _rebuild_parameter": lambda data, *_: data,
            "torch._utils _rebuild_parameter_with_state": lambda data, *_: data,
            "torch._tensor _rebuild_from_type_v2": lambda make, kind, arguments, state: self.call(make, arguments),
            "torch.nn.parameter Parameter": lambda data, *_: data,
            "torch Tensor": lambda: None,  # only named, as what _rebuild_from_type_v2 makes
        }

    def run(self, data: bytes) -> tuple[Any, int]:
        for instruction, argument, position in pickletools.genops(BytesIO(data[:MAX_BYTES])):
            self.spend(1)
            name = instruction.name
            if name == "STOP":
                return self.stack.pop(), (position or 0) + 1
            if name in PUSHED:
                self.stack.append(argument)
            elif name in MADE:
                self.stack.append(MADE[name]())
            elif name in PACKED:
                self.pack(PACKED[name])
            elif name not in ("PROTO", "FRAME"):
                step = getattr(self, f"do_{name.lower()}", None)
                if step is None:
                    raise ForeignObjectError(f"its pickle has the instruction {name}")
                step(argument)
        raise ValueError("its pickled part has no end")

    def spend(self, steps: int) -> None:
        self.steps += steps
        if self.steps > MAX_STEPS:
            raise ValueError(LIMIT)

    # ---- the stack and the memo -----------------------------------------------------------------------------------

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def do_mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def do_pop(self, _: Any) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.stack.pop()

    def do_pop_mark(self, _: Any) -> None:
        self.since_mark()

    def do_dup(self, _: Any) -> None:
        self.stack.append(self.stack[-1])

    def do_put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_get(self, index: int) -> None:
        self.stack.append(self.memo[index])

    do_binput = do_long_binput = do_put
    do_binget = do_long_binget = do_get

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.since_mark()))

    def pack(self, size: int) -> None:
        items = self.stack[len(self.stack) - size :]
        del self.stack[len(self.stack) - size :]
        self.stack.append(tuple(items))

    def do_list(self, _: Any) -> None:
        self.stack.append(self.since_mark())

    def do_dict(self, _: Any) -> None:
        items = self.since_mark()
        self.stack.append({})
        self.set_items(items)

    def do_append(self, _: Any) -> None:
        self.extend([self.stack.pop()])

    def do_appends(self, _: Any) -> None:
        self.extend(self.since_mark())

    def extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if isinstance(target, list):
            target.extend(items)
        elif not isinstance(target, Foreign):
            raise ValueError(f"its pickle appends to {type(target).__name__}")

    def do_setitem(self, _: Any) -> None:
        self.set_items([self.stack.pop(), self.stack.pop()][::-1])

    def do_setitems(self, _: Any) -> None:
        self.set_items(self.since_mark())

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError(f"its pickle sets items of {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def do_additems(self, _: Any) -> None:
        items = self.since_mark()
        target = self.stack[-1]
        if not isinstance(target, set):
            raise ValueError(f"its pickle adds to {type(target).__name__}")
        target.update(map(_key, items))

    def do_frozenset(self, _: Any) -> None:
        self.stack.append(frozenset(map(_key, self.since_mark())))

    # ---- names and calls ------------------------------------------------------------------------------------------

    def do_global(self, name: str) -> None:
        """name: module and name with a space between."""
        name = name.replace("__builtin__ ", "builtins ", 1)
        module, _, last = name.partition(" ")
        if name in self.calls:
            self.stack.append(_Call(self.calls[name]))
        elif module in ("torch", "torch.cuda", "torch.storage") and last in STORAGES:
            self.stack.append(STORAGES[last])
        elif f"{module}.{last}" in DTYPES:
            self.stack.append(DTYPES[f"{module}.{last}"])
        elif self.foreign:
            self.stack.append(Foreign())
        else:
            raise ForeignObjectError(f"its pickle names {name[:80]!r}")

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.do_global(f"{_text(module)} {_text(name)}")

    def do_inst(self, name: str) -> None:
        arguments = tuple(self.since_mark())
        self.do_global(name)
        self.stack.append(self.call(self.stack.pop(), arguments))

    def do_obj(self, _: Any) -> None:
        made, *arguments = self.since_mark()
        self.stack.append(self.call(made, tuple(arguments)))

    def do_reduce(self, _: Any) -> None:
        arguments, made = self.stack.pop(), self.stack.pop()
        self.stack.append(self.call(made, arguments))

    def do_newobj_ex(self, _: Any) -> None:
        self.stack.pop()  # keyword arguments, which only foreign classes have
        self.do_reduce(_)

    do_newobj = do_reduce

    def call(self, made: Any, arguments: Any) -> Any:
        if isinstance(made, Foreign):
            return Foreign()
        if not isinstance(made, _Call) or not isinstance(arguments, tuple):
            raise ValueError(f"its pickle calls {type(made).__name__}")
        for argument in arguments:
            if isinstance(argument, (list, tuple, set, frozenset, dict, str, bytes, bytearray)):
                self.spend(len(argument))
                if made.make in (OrderedDict, Counter, set, frozenset):
                    items: Any = argument
                    pairs = made.make is OrderedDict and not isinstance(argument, dict)
                    for item in items:
                        _key(item[0] if pairs else item)
            elif made.make in (bytearray, set, frozenset, tuple):  # bytearray(n) makes n bytes
                raise ValueError(f"its pickle calls {made.make.__name__}({type(argument).__name__})")
        return made.make(*arguments)

    def do_build(self, _: Any) -> None:
        """An object's state. That of an OrderedDict are attributes, such as a module's versions; a tensor's are hooks."""
        state = self.stack.pop()
        if isinstance(self.stack[-1], Foreign):
            self.stack[-1].state = state
        elif not isinstance(self.stack[-1], (OrderedDict, Tensor)):
            raise ValueError(f"its pickle sets the state of {type(self.stack[-1]).__name__}")

    # ---- tensors --------------------------------------------------------------------------------------------------

    def do_binpersid(self, _: Any) -> None:
        mark, dtype, key, _place, numel, *view = self.stack.pop()
        if mark != "storage" or not isinstance(dtype, torch.dtype) or type(numel) is not int or numel < 0:
            raise ValueError("its pickle refers to something else than a storage")
        offset = 0 if not view or view[0] is None else int(view[0][1])
        self.stack.append(Storage(dtype, _text(key), numel, offset))

    def tensor(self, at: Any, offset: Any, size: Any, stride: Any, *_: Any) -> Tensor:
        return self.tensor_of_dtype(at, offset, size, stride, None, None, at.dtype)

    def tensor_of_dtype(
        self, at: Any, offset: Any, size: Any, stride: Any, _grad: Any, _hooks: Any, dtype: Any, *_: Any
    ) -> Tensor:
        flat = self.storage(at)[at.offset :] if at.offset else self.storage(at)
        return placed(flat.view(dtype), offset, size, stride)


def placed(flat: Tensor, offset: int, size: Sequence[int], stride: Sequence[int]) -> Tensor:
    """A view of a flat tensor, inside of it and nowhere else. Raises ValueError."""
    if len(size) != len(stride) or len(size) > 64:
        raise ValueError("a tensor of it has no proper shape")
    if any(type(n) is not int or not 0 <= n < 1 << 60 for n in (offset, *size, *stride)):
        raise ValueError("a tensor of it has no proper shape")
    numel = math.prod(size)
    if numel and offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) >= flat.numel():
        raise ValueError("a tensor of it reaches beyond its storage")
    if numel > max(flat.numel(), MAX_REPEATED):
        raise ValueError("a tensor of it repeats a small storage without end")
    return flat.as_strided(tuple(size), tuple(stride), flat.storage_offset() + offset)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"its pickle has {type(value).__name__} where a name belongs")
    return value


def _key(value: Any) -> Any:
    """A key of a dict: tuples in tuples are refused, because hashing them would recurse."""
    if isinstance(value, (tuple, frozenset)) and any(isinstance(v, (tuple, frozenset)) for v in value):
        raise ValueError("its pickle has nested tuples as a key")
    return value


PUSHED = {
    *("FLOAT", "BINFLOAT", "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
MADE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple, "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set,
}  # fmt: skip
PACKED = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
