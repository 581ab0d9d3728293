"""Physics of the radio link: decibels, rates, path loss, shadowing, fading, and the closed forms that check them.

One equation per function, with its source. Every function is elementwise: arguments broadcast, scalars are allowed, and
the result has their common shape. Values are float32 unless complex64 is said; the unit is the end of the name.

Sources, by the names used below:

- TR 38.901: 3GPP TR 38.901, "Study on channel model for frequencies from 0.5 to 100 GHz"; its UMi, urban micro street
  canyon.
- Goldsmith: A. Goldsmith, "Wireless Communications", Cambridge University Press, 2005.
- Tse and Viswanath: D. Tse and P. Viswanath, "Fundamentals of Wireless Communication", Cambridge University Press,
  2005.
- A&S: M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions", National Bureau of Standards, 1964.
"""

import math
from collections.abc import Sequence
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Complex, Float, Inexact, PRNGKeyArray

THERMAL_NOISE_DBM_PER_HZ = -174.0  # Boltzmann constant times 290 K
SPEED_OF_LIGHT_M_PER_S = 3.0e8  # the rounded value that TR 38.901 (table 7.4.1-1, note 1) prescribes
BITS_PER_WORD = 46.5  # measured: 5.81 bytes per English word, its space included
SHADOWING_LOS_DB = 4.0  # standard deviations: TR 38.901, table 7.4.1-1
SHADOWING_NLOS_DB = 7.82
CORRELATION_LOS_M = 10.0  # of the shadowing: TR 38.901, table 7.5-6
CORRELATION_NLOS_M = 13.0

Real: TypeAlias = Float[ArrayLike, "..."]
RealArray: TypeAlias = Float[Array, "..."]

_UMI_ENVIRONMENT_HEIGHT_M = 1.0  # TR 38.901, table 7.4.1-1, note 1
_UMI_CERTAIN_LOS_M = 18.0  # TR 38.901, table 7.4.2-1

# Coefficients of the approximations, highest power first.
_J0_SMALL = (0.0002100, -0.0039444, 0.0444479, -0.3163866, 1.2656208, -2.2499997, 1.0)  # A&S 9.4.1
_J0_AMPLITUDE = (0.00014476, -0.00072805, 0.00137237, -0.00009512, -0.00552740, -0.00000077, 0.79788456)  # A&S 9.4.3
_J0_PHASE = (0.00013558, -0.00029333, -0.00054125, 0.00262573, -0.00003954, -0.04166397, -0.78539816)
_E1_SMALL = (0.00107857, -0.00976004, 0.05519968, -0.24991055, 0.99999193, -0.57721566)  # A&S 5.1.53
_E1_NUMERATOR = (0.2677737343, 8.6347608925, 18.0590169730, 8.5733287401, 1.0)  # A&S 5.1.56
_E1_DENOMINATOR = (3.9584969228, 21.0996530827, 25.6329561486, 9.5733223454, 1.0)


# Decibels, rates and times


def linear_from_db(x_db: Real) -> RealArray:
    """Ratio of powers from decibels: ``10^(x_db / 10)``.

    >>> round(float(linear_from_db(20.0)), 3)
    100.0
    """
    return jnp.power(10.0, jnp.divide(x_db, 10.0))


def db_from_linear(x: Real) -> RealArray:
    """Decibels from a ratio of powers: ``10 log10(x)``; zero gives ``-inf``.

    >>> round(float(db_from_linear(2.0)), 3)
    3.01
    """
    return 10.0 * jnp.log10(x)


def noise_dbm(bandwidth_hz: Real, noise_figure_db: Real) -> RealArray:
    """Thermal noise of a receiver: ``-174 + 10 log10(bandwidth_hz) + noise_figure_db``.

    The constant is the density ``k T`` of Johnson and Nyquist (1928) at 290 K, in dBm per Hz.

    >>> round(float(noise_dbm(1e6, 9.0)), 3)
    -105.0
    """
    return THERMAL_NOISE_DBM_PER_HZ + db_from_linear(bandwidth_hz) + noise_figure_db


def snr_db(tx_power_dbm: Real, path_loss_db: Real, noise_dbm: Real) -> RealArray:
    """Link budget: ``tx_power_dbm - path_loss_db - noise_dbm``.

    Gains and margins (antennas, shadowing, interference) are added to the path loss by the caller.

    >>> round(float(snr_db(23.0, 110.0, -105.0)), 3)
    18.0
    """
    return jnp.subtract(jnp.subtract(tx_power_dbm, path_loss_db), noise_dbm)


def shannon_rate_bps(bandwidth_hz: Real, snr: Real) -> RealArray:
    """Capacity of the Gaussian channel: ``bandwidth_hz * log2(1 + snr)``, linear SNR (Shannon, 1948, theorem 17).

    Computed through ``log1p``, which keeps its precision when the SNR is far below one.

    >>> round(float(shannon_rate_bps(1000.0, 3.0)), 2)
    2000.0
    """
    return jnp.multiply(bandwidth_hz, jnp.log1p(snr) / math.log(2.0))


def payload_bits(words: Real, bits_per_word: Real = BITS_PER_WORD) -> RealArray:
    """Size of a text in bits: ``words * bits_per_word``.

    >>> float(payload_bits(100.0))
    4650.0
    """
    return jnp.multiply(words, bits_per_word)


def transmission_s(bits: Real, rate_bps: Real) -> RealArray:
    """Airtime of a payload: ``bits / rate_bps``; a positive payload at rate zero takes ``inf``.

    >>> float(transmission_s(4650.0, 9300.0))
    0.5
    """
    return jnp.divide(bits, rate_bps)


# Large scale: path loss and shadowing


def distance_3d_m(distance_2d_m: Real, bs_height_m: Real, ut_height_m: Real) -> RealArray:
    """Distance between the antennas of base station and user: ``sqrt(d_2D^2 + (h_BS - h_UT)^2)`` (TR 38.901, 7.4-1).

    >>> round(float(distance_3d_m(4.0, 4.5, 1.5)), 3)
    5.0
    """
    return jnp.hypot(distance_2d_m, jnp.subtract(bs_height_m, ut_height_m))


def umi_break_point_m(carrier_ghz: Real, bs_height_m: Real, ut_height_m: Real) -> RealArray:
    """2D distance where the ground reflection steepens the path loss (TR 38.901, table 7.4.1-1, note 1).

    ``d_BP = 4 (h_BS - 1) (h_UT - 1) f_Hz / c``, for antennas above the effective environment height of 1 m.

    >>> round(float(umi_break_point_m(3.0, 10.0, 1.5)), 2)
    180.0
    """
    effective_bs_height_m = jnp.subtract(bs_height_m, _UMI_ENVIRONMENT_HEIGHT_M)
    effective_ut_height_m = jnp.subtract(ut_height_m, _UMI_ENVIRONMENT_HEIGHT_M)
    wavenumber_per_m = jnp.multiply(carrier_ghz, 1e9 / SPEED_OF_LIGHT_M_PER_S)
    return 4.0 * effective_bs_height_m * effective_ut_height_m * wavenumber_per_m


def umi_los_path_loss_db(distance_2d_m: Real, carrier_ghz: Real, bs_height_m: Real, ut_height_m: Real) -> RealArray:
    """Path loss of a UMi street canyon in line of sight (TR 38.901, table 7.4.1-1, UMi LoS), without shadowing.

    Up to the break point ``PL1 = 32.4 + 21 log10(d_3D) + 20 log10(f_GHz)``; beyond it
    ``PL2 = 32.4 + 40 log10(d_3D) + 20 log10(f_GHz) - 9.5 log10(d_BP^2 + (h_BS - h_UT)^2)``. The standard states it for
    10 m <= d_2D <= 5 km, h_BS = 10 m and 1.5 m <= h_UT <= 22.5 m.

    >>> round(float(umi_los_path_loss_db(100.0, 3.5, 10.0, 1.5)), 2)
    85.31
    """
    log_distance = jnp.log10(distance_3d_m(distance_2d_m, bs_height_m, ut_height_m))
    break_point_m = umi_break_point_m(carrier_ghz, bs_height_m, ut_height_m)
    log_break_point = jnp.log10(distance_3d_m(break_point_m, bs_height_m, ut_height_m))
    at_one_metre_db = 32.4 + 20.0 * jnp.log10(carrier_ghz)
    near_db = at_one_metre_db + 21.0 * log_distance
    far_db = at_one_metre_db + 40.0 * log_distance - 2.0 * 9.5 * log_break_point
    return jnp.where(jnp.less_equal(distance_2d_m, break_point_m), near_db, far_db)


def umi_nlos_path_loss_db(distance_2d_m: Real, carrier_ghz: Real, bs_height_m: Real, ut_height_m: Real) -> RealArray:
    """Path loss of a UMi street canyon without line of sight (TR 38.901, table 7.4.1-1, UMi NLoS), without shadowing.

    ``max(PL_LoS, 35.3 log10(d_3D) + 22.4 + 21.3 log10(f_GHz) - 0.3 (h_UT - 1.5))``, for the ranges of the LoS formula.

    >>> round(float(umi_nlos_path_loss_db(100.0, 3.5, 10.0, 1.5)), 2)
    104.64
    """
    los_db = umi_los_path_loss_db(distance_2d_m, carrier_ghz, bs_height_m, ut_height_m)
    log_distance = jnp.log10(distance_3d_m(distance_2d_m, bs_height_m, ut_height_m))
    height_gain_db = 0.3 * jnp.subtract(ut_height_m, 1.5)
    return jnp.maximum(los_db, 22.4 + 35.3 * log_distance + 21.3 * jnp.log10(carrier_ghz) - height_gain_db)


def umi_los_probability(distance_2d_m: Real) -> RealArray:
    """Probability of a line of sight in a UMi street canyon (TR 38.901, table 7.4.2-1).

    1 up to ``d_2D`` = 18 m, then ``18/d_2D + exp(-d_2D/36) (1 - 18/d_2D)``.

    >>> round(float(umi_los_probability(36.0)), 4)
    0.6839
    """
    beyond_m = jnp.maximum(distance_2d_m, _UMI_CERTAIN_LOS_M)  # the formula itself is 1 at 18 m
    certain = _UMI_CERTAIN_LOS_M / beyond_m
    return certain + jnp.exp(-beyond_m / 36.0) * (1.0 - certain)


def spatial_correlation(speed_m_per_s: Real, slot_s: Real, correlation_distance_m: Real) -> RealArray:
    """Correlation of a user's shadowing from one slot to the next: ``exp(-v T / d_corr)`` (TR 38.901, equation 7.4-5).

    >>> round(float(spatial_correlation(1.0, 4.0, CORRELATION_LOS_M)), 4)
    0.6703
    """
    return jnp.exp(-jnp.divide(jnp.multiply(speed_m_per_s, slot_s), correlation_distance_m))


# Small scale: fading


def gauss_markov(
    value: Inexact[Array, "..."], correlation: Real, innovation: Inexact[Array, "..."]
) -> Inexact[Array, "..."]:
    """One step of a stationary first-order autoregression: ``rho value + sqrt(1 - rho^2) innovation``.

    Where value and innovation are independent with equal variance, the step keeps that variance, and the lag-1
    correlation is ``rho``. Real (shadowing, in dB) or complex (scattered field); ``rho`` is real, in [-1, 1].

    >>> round(float(gauss_markov(jnp.array(1.0), 0.6, jnp.array(2.0))), 3)
    2.2
    """
    rho = jnp.asarray(correlation)
    innovation_weight = jnp.sqrt((1.0 - rho) * (1.0 + rho))  # exact near one, unlike 1 - rho^2
    dtype = jnp.result_type(value)
    return rho.astype(dtype) * value + innovation_weight.astype(dtype) * innovation


def complex_normal(key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Complex[Array, "..."]:
    """Draws of the circularly symmetric CN(0, 1), complex64: independent parts of variance 1/2, so ``E|z|^2 = 1``.

    Source: Tse and Viswanath, appendix A.1.3.

    >>> complex_normal(jax.random.key(0), (2, 3)).shape
    (2, 3)
    """
    return jax.random.normal(key, shape, jnp.complex64)


def rayleigh_power_gain(scattered: Complex[Array, "..."]) -> RealArray:
    """Power gain ``|s|^2`` of a channel without line of sight (Tse and Viswanath, section 2.4.2).

    With ``s`` drawn from CN(0, 1) the gain is exponential with mean 1 (and variance 1).

    >>> round(float(rayleigh_power_gain(jnp.array(0.6 + 0.8j))), 3)
    1.0
    """
    return jnp.square(jnp.real(scattered)) + jnp.square(jnp.imag(scattered))


def rician_power_gain(scattered: Complex[Array, "..."], k_factor: Real, line_of_sight_phase_rad: Real) -> RealArray:
    """Power gain of a channel whose direct path carries ``K`` times the scattered power.

    ``|sqrt(K / (K + 1)) e^(j theta) + sqrt(1 / (K + 1)) s|^2`` with ``s`` from CN(0, 1): the mean is exactly 1 for
    every ``K`` and ``theta``. Only ``s`` fades from slot to slot; ``K = 0`` is Rayleigh (Tse and Viswanath,
    section 2.4.2).

    >>> round(float(rician_power_gain(jnp.array(1.0 + 0.0j), 1.0, 0.0)), 3)
    2.0
    """
    scattered_power = 1.0 / jnp.add(k_factor, 1.0)
    direct_amplitude = jnp.sqrt(k_factor * scattered_power)
    scattered_amplitude = jnp.sqrt(scattered_power)
    in_phase = direct_amplitude * jnp.cos(line_of_sight_phase_rad) + scattered_amplitude * jnp.real(scattered)
    quadrature = direct_amplitude * jnp.sin(line_of_sight_phase_rad) + scattered_amplitude * jnp.imag(scattered)
    return jnp.square(in_phase) + jnp.square(quadrature)


def doppler_hz(speed_m_per_s: Real, carrier_ghz: Real) -> RealArray:
    """Largest Doppler shift of a moving user: ``v f_Hz / c`` (Goldsmith, section 3.1).

    >>> round(float(doppler_hz(30.0, 3.0)), 3)
    300.0
    """
    return jnp.multiply(speed_m_per_s, jnp.multiply(carrier_ghz, 1e9 / SPEED_OF_LIGHT_M_PER_S))


def jakes_correlation(doppler_hz: Real, slot_s: Real) -> RealArray:
    """Correlation of the scattered field over one slot under isotropic scattering: ``J0(2 pi f_D T)``.

    Source: Clarke's model (Goldsmith, section 3.2). Slots of seconds give about 0: each has a fade of its own.

    >>> round(float(jakes_correlation(10.0, 0.01)), 4)
    0.9037
    """
    return bessel_j0(2.0 * math.pi * jnp.multiply(doppler_hz, slot_s))


def bessel_j0(x: Real) -> RealArray:
    """Bessel function of the first kind and order zero, for real ``x`` (A&S 9.4.1 to ``|x|`` = 3, 9.4.3 beyond).

    The approximation errs by less than 5e-8; float32 adds its own rounding. JAX has only the recurrence ``bessel_jn``.

    >>> round(float(bessel_j0(1.0)), 5)
    0.7652
    """
    magnitude = jnp.abs(x)
    small = _polynomial(_J0_SMALL, jnp.square(jnp.minimum(magnitude, 3.0) / 3.0))
    large_argument = jnp.maximum(magnitude, 3.0)
    ratio = 3.0 / large_argument
    phase = large_argument + _polynomial(_J0_PHASE, ratio)
    large = _polynomial(_J0_AMPLITUDE, ratio) * jnp.cos(phase) / jnp.sqrt(large_argument)
    return jnp.where(magnitude <= 3.0, small, large)


# Closed forms of the Rayleigh channel


def rayleigh_outage_probability(rate_bps: Real, bandwidth_hz: Real, mean_snr: Real) -> RealArray:
    """Probability that a Rayleigh channel cannot carry a rate: ``1 - exp(-(2^(R/B) - 1) / mean_snr)``, linear SNR.

    Source: Tse and Viswanath, section 5.4.1.

    >>> round(float(rayleigh_outage_probability(1000.0, 1000.0, 10.0)), 4)
    0.0952
    """
    needed_snr = jnp.expm1(jnp.divide(rate_bps, bandwidth_hz) * math.log(2.0))
    return -jnp.expm1(-needed_snr / mean_snr)


def rayleigh_ergodic_capacity_bps(bandwidth_hz: Real, mean_snr: Real) -> RealArray:
    """Mean Shannon rate of a Rayleigh channel: ``B log2(e) exp(1/mean_snr) E1(1/mean_snr)``, linear SNR.

    Source: M.-S. Alouini and A. Goldsmith, "Capacity of Rayleigh fading channels under different adaptive
    transmission and diversity-combining techniques", IEEE Transactions on Vehicular Technology 48(4), 1999.

    >>> round(float(rayleigh_ergodic_capacity_bps(1000.0, 1.0)), 1)
    860.3
    """
    capacity_bps_per_hz = _scaled_exponential_integral_of_inverse(mean_snr) / math.log(2.0)
    return jnp.multiply(bandwidth_hz, capacity_bps_per_hz)


def _scaled_exponential_integral_of_inverse(y: Real) -> RealArray:
    """``exp(1/y) E1(1/y)`` for ``y >= 0``, within 1e-6 (A&S 5.1.56 up to ``y`` = 1, 5.1.53 beyond).

    The product is approximated as one where ``exp`` would overflow and ``E1`` vanish. JAX's ``exp1`` iterates to
    convergence, which is slow on arrays.
    """
    low = jnp.minimum(y, 1.0)
    of_low = low * _polynomial(_E1_NUMERATOR, low) / _polynomial(_E1_DENOMINATOR, low)
    inverse = 1.0 / jnp.maximum(y, 1.0)
    of_high = jnp.exp(inverse) * (_polynomial(_E1_SMALL, inverse) - jnp.log(inverse))
    return jnp.where(jnp.less_equal(y, 1.0), of_low, of_high)


def _polynomial(coefficients: Sequence[float], x: RealArray) -> RealArray:
    """Horner's rule, highest power first."""
    value = jnp.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
