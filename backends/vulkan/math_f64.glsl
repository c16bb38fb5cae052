/* f64 functions, which GLSL lacks, between prelude.glsl and common.k: within 8 ulp (POW: 2 |y ln x| eps), loops
 * where a series is long, since f64 is for gradient checks and references, not for speed. */

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

/* e^r - 1 for |r| <= 0.36: Taylor, whose rest is r^15 / 15! */
FN(double) expm1_near(double r)
{
    double t = R_f64(0.0);
    for (int n = 14; n > 0; n--)
        t = (t + R_f64(1.0)) * r / F64(n);
    return t;
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
    double t = R_f64(0.0);
    for (int n = 27; n > 1; n -= 2)
        t = (t + R_f64(2.0) / F64(n)) * z;
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

/* erfc(a) for a >= 1.5: Laplace's continued fraction from its far end. */
FN(double) erfc_far_f64(double a)
{
    double t = R_f64(0.0);
    for (int n = 140; n > 0; n--)
        t = R_f64(0.5) * F64(n) / (a + t);
    const double high = BITS_F64(0u, F64_HIGH(a));
    return EXP_f64(-high * high) * EXP_f64(-(a - high) * (a + high)) * R_f64(0.56418958354775628695) / (a + t);
}

/* erf(a) for 0 <= a <= 1.5: the series without cancellation. */
FN(double) erf_near_f64(double a)
{
    double term = a, sum = a;
    for (int n = 1; n < 60; n++) {
        term = term * (R_f64(2.0) * a * a) / F64(2 * n + 1);
        sum = sum + term;
    }
    return sum * EXP_f64(-a * a) * R_f64(1.12837916709551257390);
}

FN(double) ERF_f64(double x)
{
    const double a = ABS_f64(x);
    if (ISNAN_f64(x))
        return x;
    const double v = SELECT(a < R_f64(1.5), erf_near_f64(SELECT(a < R_f64(1.5), a, R_f64(1.0))),
                            R_f64(1.0) - erfc_far_f64(SELECT(a > R_f64(27.0), R_f64(27.0), a)));
    return SELECT(x < R_f64(0.0), -v, v);
}

FN(double) ERFC_f64(double x)
{
    if (ISNAN_f64(x))
        return x;
    if (x < R_f64(0.5))
        return R_f64(1.0) - ERF_f64(x);
    if (x < R_f64(1.5))
        return R_f64(1.0) - erf_near_f64(x);
    return erfc_far_f64(SELECT(x > R_f64(28.0), R_f64(28.0), x));
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
