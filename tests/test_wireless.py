"""The radio link: each formula by hand, by a property, and where it is stochastic by Monte Carlo."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from jaxmoe import wireless

properties = partial(settings, max_examples=25, deadline=None, derandomize=True)
snrs_db = st.floats(-40.0, 60.0)
distances_m = st.floats(10.0, 5000.0)
carriers_ghz = st.floats(0.5, 100.0)
bs_heights_m = st.floats(5.0, 30.0)
ut_heights_m = st.floats(1.5, 22.5)
correlations = st.floats(0.0, 1.0)
k_factors = st.floats(0.0, 100.0)
phases_rad = st.floats(-math.pi, math.pi)


# Decibels, rates and times


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (wireless.linear_from_db, (3.0,), 1.9952623),  # 10^0.3
        (wireless.linear_from_db, (-10.0,), 0.1),
        (wireless.db_from_linear, (1000.0,), 30.0),
        (wireless.db_from_linear, (0.5,), -3.0103),
        (wireless.noise_dbm, (1e7, 7.0), -97.0),  # -174 + 70 + 7
        (wireless.snr_db, (20.0, 100.0, -97.0), 17.0),
        (wireless.shannon_rate_bps, (3750.0, 15.0), 15000.0),  # 3750 log2(16)
        (wireless.shannon_rate_bps, (1.0, 1e-9), 1.442695e-9),  # 1e-9 / ln 2: a float32 1 + 1e-9 would give zero
        (wireless.payload_bits, (200.0,), 9300.0),  # 200 * 46.5
        (wireless.payload_bits, (10.0, 8.0), 80.0),
        (wireless.transmission_s, (9300.0, 15000.0), 0.62),
    ],
)
def test_link_by_hand(function, arguments, expected):
    assert float(function(*arguments)) == pytest.approx(expected, rel=2e-6)


def test_no_rate_takes_for_ever_and_no_power_is_minus_infinity_decibels():
    assert float(wireless.transmission_s(1.0, 0.0)) == math.inf
    assert float(wireless.db_from_linear(0.0)) == -math.inf


@properties()
@given(snrs_db)
def test_decibels_invert(x_db):
    assert float(wireless.db_from_linear(wireless.linear_from_db(x_db))) == pytest.approx(x_db, abs=1e-4)


@properties()
@given(bandwidth_hz=st.floats(1e3, 1e9), snr=st.floats(1e-6, 1e5))
def test_shannon_rate_inverts_and_stays_below_its_tangent(bandwidth_hz, snr):
    rate_bps = float(wireless.shannon_rate_bps(bandwidth_hz, snr))
    assert math.expm1(rate_bps / bandwidth_hz * math.log(2.0)) == pytest.approx(snr, rel=1e-5)
    assert rate_bps <= bandwidth_hz * snr / math.log(2.0) * (1.0 + 1e-6)


@properties()
@given(words=st.floats(1.0, 1e4), rate_bps=st.floats(1.0, 1e9))
def test_airtime_times_rate_is_the_payload(words, rate_bps):
    airtime_s = float(wireless.transmission_s(wireless.payload_bits(words), rate_bps))
    assert airtime_s * rate_bps == pytest.approx(46.5 * words, rel=1e-6)


@properties()
@given(tx_power_dbm=st.floats(0.0, 46.0), path_loss_db=st.floats(40.0, 160.0), bandwidth_hz=st.floats(1e3, 1e9))
def test_received_power_is_noise_times_snr(tx_power_dbm, path_loss_db, bandwidth_hz):
    noise_dbm = wireless.noise_dbm(bandwidth_hz, 9.0)
    snr_db = wireless.snr_db(tx_power_dbm, path_loss_db, noise_dbm)
    assert float(snr_db + noise_dbm) == pytest.approx(tx_power_dbm - path_loss_db, abs=1e-3)
    assert float(wireless.noise_dbm(10.0 * bandwidth_hz, 9.0) - noise_dbm) == pytest.approx(10.0, abs=1e-3)


# Large scale: path loss and shadowing


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (wireless.distance_3d_m, (40.0, 31.5, 1.5), 50.0),  # 3-4-5
        (wireless.umi_break_point_m, (3.0, 10.0, 1.5), 180.0),  # 4 * 9 * 0.5 * 10
        # Equal heights, so that d_3D = d_2D = 100 m, at 10 GHz: 32.4 + 21 * 2 + 20
        (wireless.umi_los_path_loss_db, (100.0, 10.0, 10.0, 10.0), 94.4),
        # d_BP = 4 * 3 * 3 * 10 / 3 = 120 m, at 1 GHz: 32.4 + 40 * 3 + 0 - 19 log10(120) = 152.4 - 19 * 2.0791812
        (wireless.umi_los_path_loss_db, (1000.0, 1.0, 4.0, 4.0), 112.895556),
        # d_3D^2 = 100^2 + 8.5^2 = 10072.25 at 3.5 GHz: 32.4 + 10.5 * 4.0031265 + 20 * 0.5440680
        (wireless.umi_los_path_loss_db, (100.0, 3.5, 10.0, 1.5), 85.314189),
        # d_BP = 210 m at 3.5 GHz, d_3D^2 = 500^2 + 8.5^2 = 250072.25:
        # 32.4 + 20 * 5.3980655 + 20 * 0.5440680 - 9.5 log10(210^2 + 72.25) = 151.242671 - 9.5 * 4.6451496
        (wireless.umi_los_path_loss_db, (500.0, 3.5, 10.0, 1.5), 107.113750),
        (wireless.umi_nlos_path_loss_db, (100.0, 10.0, 1.5, 1.5), 114.3),  # 35.3 * 2 + 22.4 + 21.3
        (wireless.umi_nlos_path_loss_db, (100.0, 10.0, 11.5, 11.5), 111.3),  # a user 10 m higher loses 3 dB less
        (wireless.umi_nlos_path_loss_db, (10.0, 1.0, 22.5, 22.5), 53.4),  # LoS 32.4 + 21 exceeds 35.3 + 22.4 - 6.3
        (wireless.umi_los_probability, (0.0,), 1.0),
        (wireless.umi_los_probability, (18.0,), 1.0),
        (wireless.umi_los_probability, (36.0,), 0.68393972),  # 1/2 + exp(-1) / 2
        (wireless.umi_los_probability, (180.0,), 0.10606415),  # 0.1 + 0.9 exp(-5)
        (wireless.spatial_correlation, (1.0, 4.0, wireless.CORRELATION_LOS_M), 0.67032005),  # exp(-0.4)
        (wireless.spatial_correlation, (13.0, 2.0, wireless.CORRELATION_NLOS_M), 0.13533528),  # exp(-2)
    ],
)
def test_large_scale_by_hand(function, arguments, expected):
    assert float(function(*arguments)) == pytest.approx(expected, rel=2e-6)


def test_shadowing_constants_are_the_standards():
    assert (wireless.SHADOWING_LOS_DB, wireless.SHADOWING_NLOS_DB) == (4.0, 7.82)
    assert (wireless.CORRELATION_LOS_M, wireless.CORRELATION_NLOS_M) == (10.0, 13.0)


@properties()
@given(carriers_ghz, bs_heights_m, ut_heights_m)
def test_path_loss_is_continuous_at_the_break_point(carrier_ghz, bs_height_m, ut_height_m):
    break_point_m = float(wireless.umi_break_point_m(carrier_ghz, bs_height_m, ut_height_m))
    before_db = wireless.umi_los_path_loss_db(0.9999 * break_point_m, carrier_ghz, bs_height_m, ut_height_m)
    after_db = wireless.umi_los_path_loss_db(1.0001 * break_point_m, carrier_ghz, bs_height_m, ut_height_m)
    assert float(after_db) == pytest.approx(float(before_db), abs=40.0 * math.log10(1.0002) + 1e-4)


@properties()
@given(distances_m, carriers_ghz, bs_heights_m, ut_heights_m)
def test_path_loss_is_larger_without_line_of_sight(distance_2d_m, carrier_ghz, bs_height_m, ut_height_m):
    geometry = (distance_2d_m, carrier_ghz, bs_height_m, ut_height_m)
    assert float(wireless.umi_nlos_path_loss_db(*geometry)) >= float(wireless.umi_los_path_loss_db(*geometry))


@pytest.mark.parametrize("path_loss_db", [wireless.umi_los_path_loss_db, wireless.umi_nlos_path_loss_db])
@properties()
@given(carriers_ghz, bs_heights_m, ut_heights_m)
def test_path_loss_grows_with_distance_and_carrier(path_loss_db, carrier_ghz, bs_height_m, ut_height_m):
    distance_2d_m = jnp.geomspace(10.0, 5000.0, 64)
    loss_db = path_loss_db(distance_2d_m, carrier_ghz, bs_height_m, ut_height_m)
    assert np.all(np.diff(loss_db) > 0.0)
    near_m = 10.0  # below the break point a higher carrier moves nothing but the loss
    assert float(path_loss_db(near_m, 1.5 * carrier_ghz, bs_height_m, ut_height_m)) > float(loss_db[0])


@properties()
@given(st.floats(0.0, 5000.0), st.floats(0.0, 100.0))
def test_los_probability_is_a_probability_that_falls_with_distance(distance_2d_m, further_m):
    near = float(wireless.umi_los_probability(distance_2d_m))
    far = float(wireless.umi_los_probability(distance_2d_m + further_m))
    assert 0.0 < far <= near <= 1.0


@properties()
@given(st.floats(0.1, 1e4), st.floats(0.1, 50.0))
def test_distance_between_antennas_is_at_least_each_leg(distance_2d_m, height_m):
    distance_m = float(wireless.distance_3d_m(distance_2d_m, height_m, 0.0))
    assert max(distance_2d_m, height_m) * (1.0 - 1e-6) <= distance_m <= (distance_2d_m + height_m) * (1.0 + 1e-6)
    assert distance_m == float(wireless.distance_3d_m(distance_2d_m, 0.0, height_m))


@properties()
@given(speed_m_per_s=st.floats(0.0, 40.0), slot_s=st.floats(0.0, 10.0))
def test_spatial_correlation_multiplies_over_slots(speed_m_per_s, slot_s):
    once = float(wireless.spatial_correlation(speed_m_per_s, slot_s, 10.0))
    twice = float(wireless.spatial_correlation(speed_m_per_s, 2.0 * slot_s, 10.0))
    assert 0.0 <= once <= 1.0
    assert twice == pytest.approx(once**2, rel=1e-4, abs=1e-30)


# Small scale: fading


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (wireless.gauss_markov, (np.float32(1.0), 0.6, np.float32(2.0)), 2.2),  # 0.6 * 1 + 0.8 * 2
        (wireless.gauss_markov, (np.complex64(5.0j), 0.8, np.complex64(5.0)), 3.0 + 4.0j),
        (wireless.rayleigh_power_gain, (np.complex64(3.0 - 4.0j),), 25.0),
        (wireless.rician_power_gain, (np.complex64(0.0j), 3.0, 1.234), 0.75),  # the direct path alone: K / (K + 1)
        (wireless.rician_power_gain, (np.complex64(1.0j), 1.0, math.pi / 2), 2.0),  # in phase: (2 / sqrt 2)^2
        (wireless.rician_power_gain, (np.complex64(1.0j), 1.0, 0.0), 1.0),  # in quadrature: 1/2 + 1/2
        (wireless.doppler_hz, (3.0, 2.0), 20.0),  # 3 * 2e9 / 3e8
        (wireless.jakes_correlation, (10.0, 0.0), 1.0),
        (wireless.jakes_correlation, (1.0, 0.5 / math.pi), 0.76519769),  # J0(1)
        (wireless.bessel_j0, (10.0,), -0.24593576),
    ],
)
def test_small_scale_by_hand(function, arguments, expected):
    assert complex(function(*arguments)) == pytest.approx(expected, rel=2e-6)


@properties()
@given(correlations, st.integers(0, 2**31 - 1))
def test_gauss_markov_keeps_the_norm_of_orthogonal_terms(correlation, seed):
    value = wireless.complex_normal(jax.random.key(seed))
    moved = wireless.gauss_markov(value, correlation, 1j * value)
    assert moved.dtype == jnp.complex64
    assert abs(complex(moved)) == pytest.approx(abs(complex(value)), rel=1e-5)


@pytest.mark.parametrize("correlation", [0.0, 0.67, 0.95])
def test_gauss_markov_keeps_variance_and_lag_one_correlation(correlation):
    initial_key, steps_key = jax.random.split(jax.random.key(0))
    initial_db = wireless.SHADOWING_LOS_DB * jax.random.normal(initial_key, (200,))

    def move(shadowing_db, key):
        innovation_db = wireless.SHADOWING_LOS_DB * jax.random.normal(key, shadowing_db.shape)
        moved_db = wireless.gauss_markov(shadowing_db, correlation, innovation_db)
        return moved_db, moved_db

    _, path_db = jax.lax.scan(move, initial_db, jax.random.split(steps_key, 5000))
    path_db = np.asarray(path_db, np.float64)
    for window_db in (path_db[:1000], path_db[-1000:]):
        assert window_db.var() == pytest.approx(wireless.SHADOWING_LOS_DB**2, rel=0.05)
    assert path_db.var() == pytest.approx(wireless.SHADOWING_LOS_DB**2, rel=0.02)
    assert np.corrcoef(path_db[:-1].ravel(), path_db[1:].ravel())[0, 1] == pytest.approx(correlation, abs=0.005)


def test_complex_normal_is_circular_with_unit_power():
    draws = np.asarray(wireless.complex_normal(jax.random.key(1), (1_000_000,)))
    assert draws.dtype == np.complex64
    assert np.mean(np.abs(draws) ** 2) == pytest.approx(1.0, abs=0.005)
    assert draws.real.var() == pytest.approx(0.5, abs=0.005)
    assert abs(draws.mean()) < 0.005
    assert abs(np.mean(draws**2)) < 0.005  # zero pseudo-variance: independent parts of equal variance


def test_rayleigh_gain_is_exponential_with_mean_one():
    gain = np.asarray(wireless.rayleigh_power_gain(wireless.complex_normal(jax.random.key(2), (1_000_000,))))
    assert gain.mean() == pytest.approx(1.0, abs=0.005)
    assert gain.var() == pytest.approx(1.0, abs=0.02)  # one squared real Gaussian would have 2
    assert stats.kstest(gain[:20_000], stats.expon.cdf).pvalue > 0.01


@properties()
@given(k_factors, phases_rad, st.integers(0, 2**31 - 1))
def test_rician_gain_lies_between_the_interference_extremes(k_factor, phase_rad, seed):
    scattered = wireless.complex_normal(jax.random.key(seed))
    gain = float(wireless.rician_power_gain(scattered, k_factor, phase_rad))
    direct, diffuse = math.sqrt(k_factor / (k_factor + 1.0)), abs(complex(scattered)) / math.sqrt(k_factor + 1.0)
    assert (direct - diffuse) ** 2 - 1e-5 <= gain <= (direct + diffuse) ** 2 + 1e-5


@properties()
@given(phases_rad, st.integers(0, 2**31 - 1))
def test_rician_gain_without_direct_path_is_rayleigh(phase_rad, seed):
    scattered = wireless.complex_normal(jax.random.key(seed))
    gain = wireless.rician_power_gain(scattered, 0.0, phase_rad)
    assert float(gain) == pytest.approx(float(wireless.rayleigh_power_gain(scattered)), rel=1e-6)


@pytest.mark.parametrize("k_factor", [0.0, 0.5, 4.0, 20.0])
def test_rician_gain_is_noncentral_chi_squared_with_mean_one(k_factor):
    phase_key, scattered_key = jax.random.split(jax.random.key(3))
    phase_rad = jax.random.uniform(phase_key, (1_000_000,), maxval=2.0 * math.pi)
    gain = np.asarray(
        wireless.rician_power_gain(wireless.complex_normal(scattered_key, (1_000_000,)), k_factor, phase_rad)
    )
    assert gain.mean() == pytest.approx(1.0, abs=0.005)
    exact = stats.ncx2(df=2, nc=2.0 * k_factor, scale=0.5 / (k_factor + 1.0))
    assert stats.kstest(gain[:20_000], exact.cdf).pvalue > 0.01


def k_factor_by_moments(mean_gain: float, mean_square_gain: float) -> float:
    """The Rician K from the first two moments of the power (Greenstein, Michelson and Erceg, 1999)."""
    direct_power = math.sqrt(2.0 * mean_gain**2 - mean_square_gain)
    return direct_power / (mean_gain - direct_power)


def test_rician_channel_keeps_its_power_and_k_factor_for_ever():
    k_factor, correlation, channels, steps = 3.0, 0.9, 200, 30_000
    phase_key, initial_key, steps_key = jax.random.split(jax.random.key(4), 3)
    phase_rad = jax.random.uniform(phase_key, (channels,), maxval=2.0 * math.pi)

    def move(scattered, key):
        scattered = wireless.gauss_markov(scattered, correlation, wireless.complex_normal(key, (channels,)))
        gain = wireless.rician_power_gain(scattered, k_factor, phase_rad)
        return scattered, (gain.mean(), jnp.square(gain).mean())

    initial = wireless.complex_normal(initial_key, (channels,))
    _, moments = jax.lax.scan(move, initial, jax.random.split(steps_key, steps))
    mean_gain, mean_square_gain = (np.asarray(moment, np.float64) for moment in moments)
    for window in (slice(0, 10_000), slice(-10_000, None)):
        assert mean_gain[window].mean() == pytest.approx(1.0, abs=0.01)
        estimate = k_factor_by_moments(mean_gain[window].mean(), mean_square_gain[window].mean())
        assert estimate == pytest.approx(k_factor, rel=0.03)


def test_bessel_j0_matches_scipy():
    x = np.linspace(-200.0, 200.0, 400_001, dtype=np.float32)
    np.testing.assert_allclose(wireless.bessel_j0(x), special.j0(x.astype(np.float64)), atol=1e-6)


def test_bessel_j0_is_continuous_where_its_two_approximations_meet():
    at, after = wireless.bessel_j0(np.array([3.0, np.nextafter(np.float32(3.0), np.float32(4.0))], np.float32))
    assert float(at) == pytest.approx(float(after), abs=3e-7)


@properties()
@given(speed_m_per_s=st.floats(0.0, 60.0), carrier_ghz=carriers_ghz, slot_s=st.floats(0.0, 0.1))
def test_jakes_correlation_is_bounded_by_its_envelope(speed_m_per_s, carrier_ghz, slot_s):
    doppler_hz = wireless.doppler_hz(speed_m_per_s, carrier_ghz)
    correlation = abs(float(wireless.jakes_correlation(doppler_hz, slot_s)))
    x = 2.0 * math.pi * float(doppler_hz) * slot_s
    assert correlation <= 1.0 + 1e-6
    assert correlation <= math.sqrt(2.0 / (math.pi * max(x, 1e-6))) + 1e-6


def test_slots_of_seconds_fade_independently():
    doppler_hz = wireless.doppler_hz(1.5, 3.5)
    assert abs(float(wireless.jakes_correlation(doppler_hz, 4.0))) < 0.06


def test_jakes_correlation_is_that_of_scatterers_all_around():
    angle_rad = np.linspace(0.0, 2.0 * np.pi, 100_000, endpoint=False)
    expected = np.cos(2.0 * np.pi * 17.5 * np.cos(angle_rad) * 0.02).mean()
    assert float(wireless.jakes_correlation(17.5, 0.02)) == pytest.approx(expected, abs=1e-6)


# Closed forms of the Rayleigh channel


@pytest.fixture(scope="module")
def rayleigh_gain():
    return wireless.rayleigh_power_gain(wireless.complex_normal(jax.random.key(5), (2_000_000,)))


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (wireless.rayleigh_outage_probability, (1000.0, 1000.0, 1.0), 0.63212056),  # 1 - exp(-1)
        (wireless.rayleigh_outage_probability, (2000.0, 1000.0, 30.0), 0.09516258),  # 1 - exp(-3 / 30)
        (wireless.rayleigh_outage_probability, (1.0, 1.0, 1e9), 1e-9),  # a float32 1 - exp(-1e-9) would give zero
        (wireless.rayleigh_outage_probability, (1.0, 1.0, 0.0), 1.0),
        (wireless.rayleigh_ergodic_capacity_bps, (1000.0, 1.0), 860.347),  # 1442.695 * 2.718282 * 0.2193839 (E1(1))
        (wireless.rayleigh_ergodic_capacity_bps, (1.0, 10.0), 2.906515),  # 1.442695 * 1.105171 * 1.822924 (E1(0.1))
        (wireless.rayleigh_ergodic_capacity_bps, (1.0, 1e-6), 1.442694e-6),  # snr (1 - snr) / ln 2
        (wireless.rayleigh_ergodic_capacity_bps, (1.0, 0.0), 0.0),
    ],
)
def test_closed_forms_by_hand(function, arguments, expected):
    assert float(function(*arguments)) == pytest.approx(expected, rel=3e-6)


@pytest.mark.parametrize("mean_snr", [0.5, 3.0, 10.0, 50.0])
def test_outage_probability_by_monte_carlo(mean_snr, rayleigh_gain):
    rate_bps, bandwidth_hz = 7500.0, 3750.0
    outages = wireless.shannon_rate_bps(bandwidth_hz, mean_snr * rayleigh_gain) < rate_bps
    expected = float(wireless.rayleigh_outage_probability(rate_bps, bandwidth_hz, mean_snr))
    assert np.asarray(outages).mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("mean_snr", [0.01, 0.5, 10.0, 100.0])
def test_ergodic_capacity_by_monte_carlo(mean_snr, rayleigh_gain):
    rates_bps = np.asarray(wireless.shannon_rate_bps(3750.0, mean_snr * rayleigh_gain), np.float64)
    expected = float(wireless.rayleigh_ergodic_capacity_bps(3750.0, mean_snr))
    assert rates_bps.mean() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("mean_snr", [1e-4, 0.03, 0.5, 0.999, 1.001, 2.0, 40.0, 1e5])
def test_ergodic_capacity_by_quadrature(mean_snr):
    expected, _ = integrate.quad(lambda gain: math.exp(-gain) * math.log2(1.0 + mean_snr * gain), 0.0, np.inf)
    assert float(wireless.rayleigh_ergodic_capacity_bps(1.0, mean_snr)) == pytest.approx(expected, rel=2e-6)


@properties()
@given(rate_bps=st.floats(1.0, 1e4), mean_snr_db=snrs_db)
def test_outage_probability_inverts_to_the_rate(rate_bps, mean_snr_db):
    mean_snr = 10.0 ** (mean_snr_db / 10.0)
    outage = float(wireless.rayleigh_outage_probability(rate_bps, 1000.0, mean_snr))
    assert 0.0 < outage <= 1.0
    assert outage <= float(wireless.rayleigh_outage_probability(2.0 * rate_bps, 1000.0, mean_snr))
    assert outage >= float(wireless.rayleigh_outage_probability(rate_bps, 1000.0, 2.0 * mean_snr))
    if outage < 0.99:  # nearer to one, float32 has lost the digits
        recovered_bps = 1000.0 * math.log2(1.0 - mean_snr * math.log1p(-outage))
        assert recovered_bps == pytest.approx(rate_bps, rel=1e-4)


@properties()
@given(snrs_db)
def test_fading_costs_capacity_but_less_than_three_decibels(mean_snr_db):
    mean_snr = 10.0 ** (mean_snr_db / 10.0)
    ergodic_bps = float(wireless.rayleigh_ergodic_capacity_bps(1.0, mean_snr))
    assert ergodic_bps <= math.log2(1.0 + mean_snr) * (1.0 + 1e-6)  # Jensen
    assert ergodic_bps >= math.log2(1.0 + mean_snr * math.exp(-np.euler_gamma)) * (1.0 - 1e-6)
    assert ergodic_bps < float(wireless.rayleigh_ergodic_capacity_bps(1.0, 1.01 * mean_snr))


# All of them


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (wireless.linear_from_db, 1),
        (wireless.db_from_linear, 1),
        (wireless.noise_dbm, 2),
        (wireless.snr_db, 3),
        (wireless.shannon_rate_bps, 2),
        (wireless.payload_bits, 2),
        (wireless.transmission_s, 2),
        (wireless.distance_3d_m, 3),
        (wireless.umi_break_point_m, 3),
        (wireless.umi_los_path_loss_db, 4),
        (wireless.umi_nlos_path_loss_db, 4),
        (wireless.umi_los_probability, 1),
        (wireless.spatial_correlation, 3),
        (wireless.gauss_markov, 3),
        (wireless.rayleigh_power_gain, 1),
        (wireless.rician_power_gain, 3),
        (wireless.doppler_hz, 2),
        (wireless.bessel_j0, 1),
        (wireless.jakes_correlation, 2),
        (wireless.rayleigh_outage_probability, 3),
        (wireless.rayleigh_ergodic_capacity_bps, 2),
    ],
)
def test_elementwise_in_float32_under_jit(function, arguments):
    columns = np.random.default_rng(6).uniform(0.1, 0.9, (arguments, 2, 3)).astype(np.float32)
    together, one_by_one = jax.jit(lambda *x: (function(*x), jax.vmap(jax.vmap(function))(*x)))(*columns)
    assert together.dtype == jnp.float32
    np.testing.assert_allclose(together, one_by_one, rtol=1e-5, atol=1e-6)
