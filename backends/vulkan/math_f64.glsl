/* f64 functions, which GLSL lacks, between prelude.glsl and common.k: within 8 ulp (ERFC 10, POW 2 |y ln x| eps), since
 * f64 is for gradient checks and references, not for speed. */

#define F64_HIGH(v) (unpackDouble2x32(v).y)
#define F64_LOW(v) (unpackDouble2x32(v).x)

FN(double) power_of_two(int k)
{
    return BITS_F64(0u, U32(k + 1023) << 20u);
}

FN(double) scaled_by_f64(double v, int k)
{
    return v * power_of_two(k >> 1) * power_of_two(k - (k >> 1));
}

/* e^r - 1 for |r| <= 0.36: Taylor, whose rest is r^15 / 15!. Not a loop: Mesa 22's llvmpipe ends a kernel's loops after 65535
 * rounds altogether, and a long row of a softmax comes to more if each element has 14. */
FN(double) expm1_near(double r)
{
    double t = R_f64(1.0) / R_f64(87178291200.0);
    t = t * r + R_f64(1.0) / R_f64(6227020800.0);
    t = t * r + R_f64(1.0) / R_f64(479001600.0);
    t = t * r + R_f64(1.0) / R_f64(39916800.0);
    t = t * r + R_f64(1.0) / R_f64(3628800.0);
    t = t * r + R_f64(1.0) / R_f64(362880.0);
    t = t * r + R_f64(1.0) / R_f64(40320.0);
    t = t * r + R_f64(1.0) / R_f64(5040.0);
    t = t * r + R_f64(1.0) / R_f64(720.0);
    t = t * r + R_f64(1.0) / R_f64(120.0);
    t = t * r + R_f64(1.0) / R_f64(24.0);
    t = t * r + R_f64(1.0) / R_f64(6.0);
    t = t * r + R_f64(1.0) / R_f64(2.0);
    return r + r * r * t;
}

FN(double) EXP_f64(double x)
{
    const double c = SELECT(x < R_f64(-760.0), R_f64(-760.0), SELECT(x > R_f64(720.0), R_f64(720.0), x));
    const double k = ROUND_f64(c * R_f64(1.4426950408889634074));
    const double r = (c - k * R_f64(0.693147180369123816490)) - k * R_f64(1.90821492927058770002e-10);
    return SELECT(ISNAN_f64(x), x, scaled_by_f64(R_f64(1.0) + expm1_near(r), I32(k)));
}

FN(double) EXPM1_f64(double x)
{
    return SELECT(ABS_f64(x) < R_f64(0.35), expm1_near(x), EXP_f64(x) - R_f64(1.0));
}

FN(double) EXP2_f64(double x)
{
    const double c = SELECT(x < R_f64(-1100.0), R_f64(-1100.0), SELECT(x > R_f64(1030.0), R_f64(1030.0), x));
    const double k = ROUND_f64(c);
    const double v = scaled_by_f64(R_f64(1.0) + expm1_near((c - k) * R_f64(0.69314718055994530942)), I32(k));
    return SELECT(ISNAN_f64(x), x, v);
}

FN(double) LOG_f64(double x)
{
    const bool small = x < R_f64(2.2250738585072014e-308);
    const double scaled = SELECT(small, x * R_f64(18014398509481984.0), x);
    int e = I32(F64_HIGH(scaled) >> 20u) - 1023;
    double m = BITS_F64(F64_LOW(scaled), (F64_HIGH(scaled) & 0xfffffu) | 0x3ff00000u);
    const bool upper = m > R_f64(1.41421356237309504880);
    m = SELECT(upper, m * R_f64(0.5), m);
    e += SELECT(upper, 1, 0) - SELECT(small, 54, 0);
    const double f = m - R_f64(1.0), s = f / (R_f64(2.0) + f), z = s * s;
    double t = R_f64(2.0) / R_f64(27.0) * z;
    t = (t + R_f64(2.0) / R_f64(25.0)) * z;
    t = (t + R_f64(2.0) / R_f64(23.0)) * z;
    t = (t + R_f64(2.0) / R_f64(21.0)) * z;
    t = (t + R_f64(2.0) / R_f64(19.0)) * z;
    t = (t + R_f64(2.0) / R_f64(17.0)) * z;
    t = (t + R_f64(2.0) / R_f64(15.0)) * z;
    t = (t + R_f64(2.0) / R_f64(13.0)) * z;
    t = (t + R_f64(2.0) / R_f64(11.0)) * z;
    t = (t + R_f64(2.0) / R_f64(9.0)) * z;
    t = (t + R_f64(2.0) / R_f64(7.0)) * z;
    t = (t + R_f64(2.0) / R_f64(5.0)) * z;
    t = (t + R_f64(2.0) / R_f64(3.0)) * z;
    const double half_square = R_f64(0.5) * f * f;
    const double ln = F64(e) * R_f64(0.693147180369123816490) -
                      ((half_square - (s * (half_square + t) + F64(e) * R_f64(1.90821492927058770002e-10))) - f);
    if (ISNAN_f64(x) || x == POS_INF_f64)
        return x;
    return SELECT(x == R_f64(0.0), NEG_INF_f64, SELECT(x < R_f64(0.0), QUIET_NAN_f64, ln));
}

FN(double) LOG2_f64(double x)
{
    return LOG_f64(x) * R_f64(1.4426950408889634074);
}

FN(double) LOG10_f64(double x)
{
    return LOG_f64(x) * R_f64(0.43429448190325182765);
}

FN(double) LOG1P_f64(double x)
{
    const double u = R_f64(1.0) + x;
    if (u == R_f64(1.0) || x > R_f64(1e300))
        return SELECT(u == R_f64(1.0), x, LOG_f64(x));
    return LOG_f64(u) * (x / (u - R_f64(1.0)));
}

FN(double) TANH_f64(double x)
{
    const double a = ABS_f64(x);
    const double e = EXPM1_f64(R_f64(2.0) * SELECT(a > R_f64(30.0), R_f64(30.0), a));
    const double t = e / (e + R_f64(2.0));
    return SELECT(ISNAN_f64(x), x, SELECT(x < R_f64(0.0), -t, t));
}

/* sin(x + turn pi/2): three parts of pi/2, good to |x| < 2^30; nothing beyond is asked of f64 here. */
FN(double) sin_turned_f64(double x, int turn)
{
    const double k = ROUND_f64(x * R_f64(0.63661977236758134308));
    const double r = ((x - k * R_f64(1.57079632673412561417)) - k * R_f64(6.07710050630396597660e-11)) -
                     k * R_f64(2.02226624879595063154e-21);
    const int q = (I32(k - R_f64(4.0) * FLOOR_f64(k * R_f64(0.25))) + turn) & 3;
    const double z = r * r;
    double t = R_f64(1.0);
    const int first = SELECT((q & 1) == 0, 21, 20);
    for (int n = first; n > 1; n -= 2)
        t = R_f64(1.0) - t * z / F64(n * (n - 1));
    const double v = SELECT((q & 1) == 0, r * t, t);
    return SELECT((q & 2) == 0, v, -v);
}

FN(double) SIN_f64(double x)
{
    return sin_turned_f64(x, 0);
}

FN(double) COS_f64(double x)
{
    return sin_turned_f64(x, 1);
}

FN(double) TAN_f64(double x)
{
    return sin_turned_f64(x, 0) / sin_turned_f64(x, 1);
}

FN(double) SINH_f64(double x)
{
    const double a = ABS_f64(x);
    const double e = EXPM1_f64(SELECT(a > R_f64(1.0), R_f64(1.0), a)), half_power = EXP_f64(R_f64(0.5) * a);
    const double near = R_f64(0.5) * (e + e / (e + R_f64(1.0)));
    const double far = R_f64(0.5) * half_power * half_power - R_f64(0.5) / half_power / half_power;
    const double v = SELECT(a < R_f64(1.0), near, far);
    return SELECT(ISNAN_f64(x), x, SELECT(x < R_f64(0.0), -v, v));
}

FN(double) COSH_f64(double x)
{
    const double half_power = EXP_f64(R_f64(0.5) * ABS_f64(x));
    const double v = R_f64(0.5) * half_power * half_power + R_f64(0.5) / half_power / half_power;
    return SELECT(ISNAN_f64(x), x, v);
}

/* The angle of (den, num), both >= 0 and not both 0 or infinite: turned by pi / 4 where that brings it nearer to 0, then
 * halved, so that the series for |t| < 0.2 ends after 13 terms. */
FN(double) atan_of_f64(double num, double den)
{
    const bool steep = num > den * R_f64(2.41421356237309504880), middle = num > den * R_f64(0.41421356237309504880);
    const double top = SELECT(steep, -den, SELECT(middle, num - den, num));
    const double bottom = SELECT(steep, num, SELECT(middle, num + den, den));
    const double base = SELECT(steep, R_f64(1.57079632679489661923), SELECT(middle, R_f64(0.78539816339744830962), R_f64(0.0)));
    const double t = top / bottom;
    const double h = t / (R_f64(1.0) + SQRT_f64(R_f64(1.0) + t * t));
    double v = R_f64(0.0);
    for (int n = 25; n > 1; n -= 2)
        v = (R_f64(1.0) / F64(n) - v) * (h * h);
    return base + R_f64(2.0) * (h - h * v);
}

FN(double) ATAN_f64(double x)
{
    const double v = atan_of_f64(ABS_f64(x), R_f64(1.0));
    return SELECT(ISNAN_f64(x), x, SELECT(x < R_f64(0.0), -v, SELECT(x == R_f64(0.0), x, v)));
}

FN(double) ATAN2_f64(double y, double x)
{
    const double ay = ABS_f64(y), ax = ABS_f64(x), larger = SELECT(ay > ax, ay, ax);
    const bool left = (F64_HIGH(x) & 0x80000000u) != 0u, below = (F64_HIGH(y) & 0x80000000u) != 0u;
    const double scale = SELECT(larger > R_f64(1e300), R_f64(0.25), R_f64(1.0));
    double v;
    if (ISNAN_f64(x) || ISNAN_f64(y))
        return QUIET_NAN_f64;
    if (ay == ax && (ay == R_f64(0.0) || ISINF_f64(ay)))
        v = SELECT(ay == R_f64(0.0), R_f64(0.0), R_f64(0.78539816339744830962));
    else
        v = atan_of_f64(ay * scale, ax * scale);
    v = SELECT(left, R_f64(3.14159265358979323846) - v, v);
    return SELECT(below, -v, v);
}

FN(double) ASIN_f64(double x)
{
    return SELECT(x == R_f64(0.0), x, ATAN2_f64(x, SQRT_f64((R_f64(1.0) - x) * (R_f64(1.0) + x))));
}

FN(double) ACOS_f64(double x)
{
    return ATAN2_f64(SQRT_f64((R_f64(1.0) - x) * (R_f64(1.0) + x)), x);
}

FN(double) HYPOT_f64(double a, double b)
{
    const double x = ABS_f64(a), y = ABS_f64(b), larger = SELECT(x > y, x, y);
    if (ISINF_f64(a) || ISINF_f64(b))
        return POS_INF_f64;
    if (ISNAN_f64(a) || ISNAN_f64(b))
        return QUIET_NAN_f64;
    const int k = SELECT(larger > R_f64(1e150), -600, SELECT(larger < R_f64(1e-150), 600, 0));
    const double u = x * power_of_two(k), v = y * power_of_two(k);
    return SQRT_f64(u * u + v * v) * power_of_two(-k);
}

/* Exact: multiples of |b| by powers of two are taken off, the largest first. */
FN(double) FMOD_f64(double a, double b)
{
    const double divisor = ABS_f64(b);
    double rest = ABS_f64(a);
    if (ISNAN_f64(a) || ISNAN_f64(b) || ISINF_f64(a) || divisor == R_f64(0.0))
        return QUIET_NAN_f64;
    if (ISINF_f64(b) || rest < divisor)
        return a;
    int k = I32((F64_HIGH(rest) >> 20u) & 0x7ffu) - I32((F64_HIGH(divisor) >> 20u) & 0x7ffu) + 1;
    k += SELECT(divisor < R_f64(2.2250738585072014e-308), 52, 0);
    for (; k >= 0; k--) {
        const int third = k / 3; /* 2^k itself may be too large */
        const double part = divisor * power_of_two(k - 2 * third) * power_of_two(third) * power_of_two(third);
        rest = SELECT(rest >= part, rest - part, rest);
    }
    return SELECT((F64_HIGH(a) & 0x80000000u) != 0u, -rest, rest);
}

/* The error function by W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969):
 * a quotient of polynomials for each of |x| <= 0.46875, <= 4 and beyond, so that neither erf nor erfc is ever found by
 * a subtraction that cancels. */

/* erf(x) for |x| <= 0.46875 */
FN(double) erf_near_f64(double x)
{
    const double z = x * x;
    const double p = ((((R_f64(1.85777706184603153e-1) * z + R_f64(3.16112374387056560)) * z +
                        R_f64(1.13864154151050156e2)) * z + R_f64(3.77485237685302021e2)) * z +
                      R_f64(3.20937758913846947e3));
    const double q = ((((z + R_f64(2.36012909523441209e1)) * z + R_f64(2.44024637934444173e2)) * z +
                       R_f64(1.28261652607737228e3)) * z + R_f64(2.84423683343917062e3));
    return x * p / q;
}

/* exp(a^2) erfc(a) for 0.46875 <= a <= 4 */
FN(double) erfcx_middle_f64(double a)
{
    double p = R_f64(2.15311535474403846e-8) * a + R_f64(5.64188496988670089e-1);
    p = p * a + R_f64(8.88314979438837594);
    p = p * a + R_f64(6.61191906371416295e1);
    p = p * a + R_f64(2.98635138197400131e2);
    p = p * a + R_f64(8.81952221241769090e2);
    p = p * a + R_f64(1.71204761263407058e3);
    p = p * a + R_f64(2.05107837782607147e3);
    p = p * a + R_f64(1.23033935479799725e3);
    double q = a + R_f64(1.57449261107098347e1);
    q = q * a + R_f64(1.17693950891312499e2);
    q = q * a + R_f64(5.37181101862009858e2);
    q = q * a + R_f64(1.62138957456669019e3);
    q = q * a + R_f64(3.29079923573345963e3);
    q = q * a + R_f64(4.36261909014324716e3);
    q = q * a + R_f64(3.43936767414372164e3);
    q = q * a + R_f64(1.23033935480374942e3);
    return p / q;
}

/* exp(a^2) erfc(a) for a >= 4 */
FN(double) erfcx_far_f64(double a)
{
    const double z = R_f64(1.0) / (a * a);
    double p = R_f64(1.63153871373020978e-2) * z + R_f64(3.05326634961232344e-1);
    p = p * z + R_f64(3.60344899949804439e-1);
    p = p * z + R_f64(1.25781726111229246e-1);
    p = p * z + R_f64(1.60837851487422766e-2);
    p = p * z + R_f64(6.58749161529837803e-4);
    double q = z + R_f64(2.56852019228982242);
    q = q * z + R_f64(1.87295284992346725);
    q = q * z + R_f64(5.27905102951428412e-1);
    q = q * z + R_f64(6.05183413124413191e-2);
    q = q * z + R_f64(2.33520497626869185e-3);
    return (R_f64(0.56418958354775628695) - z * p / q) / a;
}

/* erfc(a) for a >= 0.46875; a^2 in two parts, the first exact, since exp multiplies its rounding by a^2 */
FN(double) erfc_tail_f64(double a)
{
    const double c = SELECT(a > R_f64(28.0), R_f64(28.0), a);
    const double high = TRUNC_f64(c * R_f64(16.0)) * R_f64(0.0625);
    const double scaled = SELECT(c <= R_f64(4.0), erfcx_middle_f64(c), erfcx_far_f64(c));
    return EXP_f64(-high * high) * EXP_f64(-(c - high) * (c + high)) * scaled;
}

FN(double) ERF_f64(double x)
{
    const double a = ABS_f64(x);
    if (ISNAN_f64(x))
        return x;
    if (a <= R_f64(0.46875))
        return erf_near_f64(x);
    const double v = R_f64(1.0) - erfc_tail_f64(a);
    return SELECT(x < R_f64(0.0), -v, v);
}

FN(double) ERFC_f64(double x)
{
    if (ISNAN_f64(x))
        return x;
    if (ABS_f64(x) <= R_f64(0.46875))
        return R_f64(1.0) - erf_near_f64(x);
    const double v = erfc_tail_f64(ABS_f64(x));
    return SELECT(x < R_f64(0.0), R_f64(2.0) - v, v);
}

FN(double) POW_f64(double x, double y)
{
    if (y == R_f64(0.0) || x == R_f64(1.0))
        return R_f64(1.0);
    if (ISNAN_f64(x) || ISNAN_f64(y))
        return QUIET_NAN_f64;
    const double a = ABS_f64(x);
    const bool whole = TRUNC_f64(y) == y;
    const bool odd = whole && TRUNC_f64(y * R_f64(0.5)) != y * R_f64(0.5);
    const bool negative = (F64_HIGH(x) & 0x80000000u) != 0u;
    if (x < R_f64(0.0) && !whole && !ISINF_f64(x))
        return QUIET_NAN_f64;
    double v = R_f64(1.0);
    if (a == R_f64(0.0) || ISINF_f64(a))
        v = SELECT((a == R_f64(0.0)) == (y < R_f64(0.0)), POS_INF_f64, R_f64(0.0));
    else if (a != R_f64(1.0))
        v = EXP_f64(y * LOG_f64(a));
    return SELECT(negative && odd, -v, v);
}
