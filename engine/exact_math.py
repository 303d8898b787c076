"""``exp2``, ``exp``, ``log`` and ``pow`` whose results are the same bytes on every machine.

NumPy and the C library choose an implementation by the processor, and the implementations differ in the last bit. Then
learned weights, decayed counters and scores would differ between two machines that applied the same events. The
functions here have one algorithm, one order of operations, and tables computed in this file. Every operation is an IEEE
754 addition, multiplication or bit operation on float64, which every processor rounds alike. The compiler may process
several arguments in parallel, but never fuses or reorders operations (``kernels/jit.py`` sets no fast-math flag).

Method: Tang, "Table-driven implementation of the exponential function in IEEE floating-point arithmetic", ACM TOMS 15,
1989, and its sequel for the logarithm (TOMS 16, 1990), with 128 entries in each table. ``pow`` carries the logarithm as
a sum of two float64. Errors: below 0.52 ulp for ``exp2`` and ``exp``, 0.6 for ``log``, 0.55 for ``pow`` (1 ulp where
a result is subnormal). ``exp2`` of an integer is exact, ``log(1)`` is 0. NaN, infinities and zeros as in C99.
"""

from decimal import Context, Decimal, localcontext
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.kernels.jit import inlined, kernel

_SIZE = 128
_BITS = 7
_DIGITS = 50


def _split(value: Decimal, step: Decimal | None = None) -> tuple[float, float]:
    """A number as a float64 and the remainder; with ``step`` the first part is a multiple of the step."""
    high = float(value if step is None else (value / step).to_integral_value() * step)
    return high, float(value - Decimal(high))


#: A sum of ``k · ln 2`` and a logarithm of the table is exact: both are multiples of this step, and k has 11 bits.
_STEP = Decimal(1) / (1 << 42)
#: Bits of the smallest argument of the logarithm's table; 1 lies in the middle of an entry's interval.
_LOG_ORIGIN_BITS = 0x3FE6000000000000 - (1 << 44)
_ORIGIN = np.int64(_LOG_ORIGIN_BITS)


def _exp_tables() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """2^(j / 128) as float64, and the remainders (128,)."""
    pairs = [_split((Decimal(j) / _SIZE * Decimal(2).ln()).exp()) for j in range(_SIZE)]
    return np.array([high for high, _ in pairs]), np.array([low for _, low in pairs])


def _log_tables() -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """By interval j: 1 / c, a multiple of 2^-9, for a c near its middle; ln c, and the remainder of ln c (128,)."""
    rows = []
    for j in range(_SIZE):
        edges = np.array([_LOG_ORIGIN_BITS + (j << 45), _LOG_ORIGIN_BITS + ((j + 1) << 45)], np.int64).view(np.float64)
        middle = (Decimal(float(edges[0])) + Decimal(float(edges[1]))) / 2
        inverse = ((1 / middle) * 512).to_integral_value() / 512
        if edges[0] < 1.0 < edges[1]:
            inverse = Decimal(1)
        rows.append((float(inverse), *_split(-inverse.ln(), _STEP)))
    columns = np.array(rows).T.copy()
    return columns[0], columns[1], columns[2]


def _series(x: Decimal) -> list[float]:
    """x^n / n! for n from 1 to 5."""
    terms = [x]
    for n in range(2, 6):
        terms.append(terms[-1] * x / n)
    return [float(term) for term in terms]


with localcontext(Context(prec=_DIGITS)):
    _LN2 = Decimal(2).ln()
    _EXP_HIGH, _EXP_LOW = _exp_tables()
    _INVERSE, _LOG_HIGH, _LOG_LOW = _log_tables()
    #: Powers of ln 2 over factorials: the series of 2^r.
    _C1, _C2, _C3, _C4, _C5 = _series(_LN2)
    #: ln 2 for ``log``, and ln 2 / 128 for ``exp``, each in two parts; the first parts have trailing zeros.
    _LN2_HIGH, _LN2_LOW = _split(_LN2, _STEP)
    _PART_HIGH, _PART_LOW = _split(_LN2 / _SIZE, _STEP)
    _PARTS_PER_UNIT = float(_SIZE / _LN2)

#: Adding this number rounds to an integer, which the lower bits of the sum hold; ``_SHIFT_128`` rounds to a 128th.
_SHIFT = 6755399441055744.0
_SHIFT_128 = _SHIFT / _SIZE
_MANTISSA = np.int64((1 << 52) - 1)
_EXPONENT = np.int64(~_MANTISSA)
_BIAS = np.int64(1023)
#: Clears the lower 27 bits: the product of two such numbers is exact. ``_CUT_32``: 32 bits, for ``log``'s argument.
_CUT_27 = np.int64(-(1 << 27))
_CUT_32 = np.int64(-(1 << 32))
_HALF_32 = np.int64(1 << 31)
_TWO_52 = 4503599627370496.0
_MIN_NORMAL = 2.2250738585072014e-308


@inlined
def _bits(x: Any) -> Any:
    return np.float64(x).view(np.int64)


@inlined
def _float(bits: Any) -> Any:
    return np.int64(bits).view(np.float64)


@inlined
def _scaled(j: Any, tail: Any) -> Any:
    """2^(j / 128) · (1 + tail), j int64 within ±150,000: the power of two is applied in two exact halves."""
    at = j & (_SIZE - 1)
    power = j >> _BITS
    half = power >> 1
    high = _EXP_HIGH[at]
    value = high + (_EXP_LOW[at] + high * tail)
    return value * _float((half + _BIAS) << 52) * _float((power - half + _BIAS) << 52)


@inlined
def _exp_of_sum(x: Any, tail: Any) -> Any:
    """exp(x + tail) for |x| < 760 and a tail that is small compared with x."""
    shifted = x * _PARTS_PER_UNIT + _SHIFT
    j = _bits(shifted) - _bits(_SHIFT)
    parts = shifted - _SHIFT
    r = x - parts * _PART_HIGH - parts * _PART_LOW + tail
    r2 = r * r
    return _scaled(j, r + r2 * (0.5 + r * (1.0 / 6.0)) + r2 * r2 * (1.0 / 24.0 + r * (1.0 / 120.0)))


@kernel
def exp2(x: Any) -> Any:
    """2^x as float64; 0 below -1075, infinity from 1024 on."""
    x = np.float64(x)
    if not -1080.0 < x < 1024.0:
        if x != x:
            return x
        return 0.0 if x < 0.0 else np.inf
    shifted = x + _SHIFT_128
    j = _bits(shifted) - _bits(_SHIFT_128)
    r = x - (shifted - _SHIFT_128)
    r2 = r * r
    return _scaled(j, r * _C1 + r2 * (_C2 + r * _C3) + r2 * r2 * (_C4 + r * _C5))


@kernel
def exp(x: Any) -> Any:
    """e^x as float64; 0 below -745.2, infinity above 709.8."""
    x = np.float64(x)
    if not -750.0 < x < 710.0:
        if x != x:
            return x
        return 0.0 if x < 0.0 else np.inf
    return _exp_of_sum(x, 0.0)


@inlined
def _log_parts(x: Any) -> Any:
    """ln x of a positive finite x as the sum of two float64, the second one small."""
    bits = _bits(x) if x >= _MIN_NORMAL else _bits(x * _TWO_52) - (np.int64(52) << 52)
    offset = bits - _ORIGIN
    at = (offset >> 45) & (_SIZE - 1)
    power = np.float64(offset >> 52)
    bits -= offset & _EXPONENT
    z = _float(bits)
    # z = zh + zl with 21 bits in zh, so that all of rh, rl and rh² are exact; r = z / c - 1.
    zh = _float((bits + _HALF_32) & _CUT_32)
    zl = z - zh
    inverse = _INVERSE[at]
    rh = zh * inverse - 1.0
    rl = zl * inverse
    r = rh + rl
    rest = rl - (r - rh)
    # The power of two and the table's logarithm add up exactly. Then r and -r²/2 are added, with their rounding errors.
    whole = power * _LN2_HIGH + _LOG_HIGH[at]
    first = whole + r
    low = power * _LN2_LOW + _LOG_LOW[at] + (whole - first + r) + rest
    square = -0.5 * rh * rh
    second = first + square
    low += first - second + square
    low += rl * (-0.5 * r - 0.5 * rh)
    r2 = r * r
    cubic = r * r2 * (
        (1.0 / 3.0 - r * 0.25) + r2 * ((0.2 - r * (1.0 / 6.0)) + r2 * ((1.0 / 7.0 - r * 0.125) + r2 * (1.0 / 9.0)))
    )  # fmt: skip
    low += cubic
    high = second + low
    return high, second - high + low


@kernel
def log(x: Any) -> Any:
    """The natural logarithm as float64; -infinity at 0, NaN below."""
    x = np.float64(x)
    if not 0.0 < x < np.inf:
        if x == 0.0:
            return -np.inf
        return np.nan if x < 0.0 else x
    high, _ = _log_parts(x)
    return high


@inlined
def _is_integer(y: Any) -> Any:
    """Whether a finite y is a whole number, and whether it is odd."""
    size = abs(y)
    if size >= 2.0 * _TWO_52:
        return True, False
    whole = np.int64(size)
    exact = np.float64(whole) == size
    return exact, exact and (whole & 1) == 1


@inlined
def _pow_edges(x: Any, y: Any) -> Any:
    """x^y where x or y is 0, infinite or NaN, or x is 1 (Annex F of C99)."""
    if y == 0.0 or x == 1.0:
        return 1.0
    if x != x or y != y:
        return np.nan
    if abs(y) == np.inf:
        if abs(x) == 1.0:
            return 1.0
        return np.inf if (abs(x) > 1.0) == (y > 0.0) else 0.0
    _, odd = _is_integer(y)
    size = 0.0 if (x == 0.0) == (y > 0.0) else np.inf
    return -size if odd and _bits(x) < 0 else size


@kernel
def pow(x: Any, y: Any) -> Any:
    """x^y as float64; NaN for a negative x with a y that is not a whole number."""
    x, y = np.float64(x), np.float64(y)
    size = abs(x)
    if not (0.0 < size < np.inf and abs(y) < np.inf and y != 0.0 and x != 1.0):
        return _pow_edges(x, y)
    sign = 1.0
    if x < 0.0:
        whole, odd = _is_integer(y)
        if not whole:
            return np.nan
        sign = -1.0 if odd else 1.0
    high, low = _log_parts(size)
    rough = y * high
    if abs(rough) >= 760.0:
        return sign * (np.inf if rough > 0.0 else 0.0)
    # y · (high + low); the product of the upper halves is exact. (A y beyond 2^1000 has returned above.)
    yh = _float(_bits(y) & _CUT_27)
    hh = _float(_bits(high) & _CUT_27)
    product = yh * hh
    rest = (y - yh) * hh + y * (high - hh + low)
    return sign * _exp_of_sum(product, rest)


@kernel
def _exp2_all(x: Any, out: Any) -> None:
    for i in range(x.shape[0]):
        out[i] = exp2(x[i])


def exp2_of(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """``exp2`` of every element: float64 of the same shape."""
    flat = np.ascontiguousarray(x, np.float64).reshape(-1)
    out = np.empty(len(flat))
    _exp2_all(flat, out)
    return out.reshape(x.shape)


@kernel
def total(x: Any) -> Any:
    """The sum of x, float64 (n,), from the first element to the last."""
    result = 0.0
    for i in range(x.shape[0]):
        result += x[i]
    return result


def warm() -> None:
    """Compile every kernel of this module on the real types."""
    one = np.ones(1)
    exp2_of(one)
    total(one)
    for function in (exp2, exp, log):
        function(np.float64(1.0))
    pow(np.float64(1.0), np.float64(1.0))
