"""The catalogue: one line a system. Imports nothing of Assay.

`assay list`, `assay info`, the README's table, the docs pages, the command line and the contract tests all
read it. A new system is one code file, one test file and one line here.
"""

from __future__ import annotations

from typing import NamedTuple


class MissingExtra(ImportError):
    """A system was used whose optional library is not installed."""


class Entry(NamedTuple):
    """One system of Assay.

    Attributes
    ----------
    name : str
        What the command line calls it.
    path : str
        ``module:Class``.
    role : str
        detector, calibrator, generator, embedder or quality.
    data : str
        Kind of data it takes: tables (or anything embedded into a table), images, series (an item is a time step),
        windows of series, events (an item is a sequence), graphs (an item is a graph), sets (an item is a set of rows) or
        scores.
    labels : str
        What it learns from: none, normals, normals+anomalies.
    summary : str
        One line.
    paper : str
        Where it was published; empty for a baseline.
    extra : str
        Extra that must be installed; empty for none.
    localises : bool
        Whether it also says where.
    """

    name: str
    path: str
    role: str
    data: str
    labels: str
    summary: str
    paper: str = ""
    extra: str = ""
    localises: bool = False


_TABULAR = "assay.detectors.tabular"
_GENERATORS = "assay.generators.tabular"
_PICTURES = "assay.detectors.images"
_IMAGES = "assay.generators.images"
_SERIES = "assay.detectors.series"
_EVENTS = "assay.detectors.events"
_GRAPHS = "assay.detectors.graphs"
_WINDOWS = "assay.generators.series"

# fmt: off
SYSTEMS: tuple[Entry, ...] = (
    Entry("eap", "assay.quality.eap:ExpectedAnomalyPosterior", "quality", "tables", "normals+anomalies", "Expected Anomaly Posterior: realistic and distinguishable", "Perini et al., TMLR 2024, arXiv 2405.13699"),
    Entry("rarity_density", "assay.quality.density:RarityDensity", "quality", "tables", "normals+anomalies", "Density by k-NN balls alone: half of EAP", "Han et al., ICLR 2023, arXiv 2206.08549"),
    Entry("class_probability", "assay.quality.probability:ClassProbability", "quality", "tables", "normals+anomalies", "The detector's probability alone: the other half of EAP"),
    Entry("density_plus_probability", "assay.quality.ablations:DensityPlusProbability", "quality", "tables", "normals+anomalies", "Density and probability added up: EAP without its idea"),
    Entry("single_posterior", "assay.quality.ablations:SinglePosterior", "quality", "tables", "normals+anomalies", "EAP from one detector: without the mean over subsets"),
    Entry("leave_one_out", "assay.quality.leave_one_out:LeaveOneOut", "quality", "tables", "normals+anomalies", "What the row adds to the whole training set", "Cook, Technometrics 1977"),
    Entry("data_shapley", "assay.quality.data_shapley:DataShapley", "quality", "tables", "normals+anomalies", "Mean contribution to prefixes of random permutations", "Ghorbani and Zou, ICML 2019, arXiv 1904.02868"),
    Entry("beta_shapley", "assay.quality.beta_shapley:BetaShapley", "quality", "tables", "normals+anomalies", "Data Shapley with more weight on small subsets", "Kwon and Zou, AISTATS 2022, arXiv 2110.14049"),
    Entry("data_banzhaf", "assay.quality.data_banzhaf:DataBanzhaf", "quality", "tables", "normals+anomalies", "Mean contribution to coin-flip subsets", "Wang and Jia, AISTATS 2023, arXiv 2205.15466"),
    Entry("influence", "assay.quality.influence:SubsampleInfluence", "quality", "tables", "normals+anomalies", "Mean contribution to subsets of a fixed size", "Feldman and Zhang, NeurIPS 2020, arXiv 2008.03703"),
    Entry("average_marginal_effect", "assay.quality.average_marginal_effect:AverageMarginalEffect", "quality", "tables", "normals+anomalies", "Sparse regression of the utility on who took part", "Lin et al., ICML 2022, arXiv 2206.10013"),
    Entry("data_oob", "assay.quality.data_oob:DataOOB", "quality", "tables", "normals+anomalies", "Votes of detectors that never saw the row", "Kwon and Zou, ICML 2023, arXiv 2304.07718"),
    Entry("dvrl", "assay.quality.dvrl:DVRL", "quality", "tables", "normals+anomalies", "A network learns by reinforcement which rows to choose", "Yoon et al., ICML 2020, arXiv 1909.11671", "deep"),
    Entry("knn_shapley", "assay.quality.knn_shapley:KNNShapley", "quality", "tables", "normals+anomalies", "Exact Shapley value in the game of a nearest-neighbour classifier", "Jia et al., VLDB 2019, arXiv 1908.08619"),
    Entry("rarity", "assay.quality.rarity:Rarity", "quality", "tables", "normals+anomalies", "Radius of the smallest k-NN ball that holds the row", "Han et al., ICLR 2023, arXiv 2206.08549"),
    Entry("robust_volume", "assay.quality.robust_volume:RobustVolume", "quality", "tables", "normals+anomalies", "Shapley value of the volume that the rows span", "Xu et al., NeurIPS 2021"),
    Entry("lava", "assay.quality.lava:Lava", "quality", "tables", "normals+anomalies", "Gradient of class-wise optimal transport", "Just et al., ICLR 2023, arXiv 2305.00054"),
    Entry("random_quality", "assay.quality.random_quality:RandomQuality", "quality", "tables", "normals+anomalies", "A random number a row: the floor"),
    Entry("isolation_forest", f"{_TABULAR}.isolation_forest:IsolationForest", "detector", "tables", "normals", "Short isolation paths in random trees", "Liu et al., ICDM 2008"),
    Entry("ssdo", f"{_TABULAR}.ssdo:SSDO", "detector", "tables", "normals+anomalies", "Labels propagate over a prior detector's scores", "Vercruyssen et al., ICDM 2018"),
    Entry("knn", f"{_TABULAR}.neighbours:KNN", "detector", "tables", "normals", "Distance to the k-th nearest training row", "Ramaswamy et al., SIGMOD 2000"),
    Entry("lof", f"{_TABULAR}.neighbours:LOF", "detector", "tables", "normals", "Density relative to that of the neighbours", "Breunig et al., SIGMOD 2000"),
    Entry("ecod", f"{_TABULAR}.marginals:ECOD", "detector", "tables", "normals", "Tail probabilities of each feature, summed", "Li et al., TKDE 2022, arXiv 2201.00382"),
    Entry("hbos", f"{_TABULAR}.marginals:HBOS", "detector", "tables", "normals", "Histogram densities of each feature, summed", "Goldstein and Dengel, KI 2012"),
    Entry("mahalanobis", f"{_TABULAR}.gaussian:Mahalanobis", "detector", "tables", "normals", "Distance to the mean in units of the covariance"),
    Entry("noise_contrastive", f"{_TABULAR}.noise_contrastive:NoiseContrastive", "detector", "tables", "normals", "Density by telling normals from generated noise", "Gutmann and Hyvärinen, AISTATS 2010"),
    Entry("slad", f"{_TABULAR}.slad:SLAD", "detector", "tables", "normals", "A network ranks lifted pieces of a row by their size", "Xu et al., ICML 2023, arXiv 2305.16114"),
    Entry("autoencoder", f"{_TABULAR}.autoencoder:Autoencoder", "detector", "tables", "normals", "Distance to the reconstruction through a narrow code; plain, spherical, toroidal or two-chart latent space", "Sakurada and Yairi, MLSDA 2014", "deep"),
    Entry("resonant", f"{_TABULAR}.resonant:ResonantDetector", "detector", "tables", "none", "Too many events of one kind in a window: a classifier against a background template", "Das et al., PRD 2025, arXiv 2411.00085"),
    Entry("classifier", f"{_TABULAR}.adapters:ClassifierDetector", "detector", "tables", "normals+anomalies", "Any scikit-learn classifier, calibrated by cross-validation"),
    Entry("quantile", "assay.calibration.quantile:Quantile", "calibrator", "scores", "none", "Flags a fixed share of the training rows"),
    Entry("false_alarm_rate", "assay.calibration.false_alarm_rate:FalseAlarmRate", "calibrator", "scores", "normals", "Keeps the false-alarm rate on fresh normal rows under a target"),
    Entry("conformal", "assay.calibration.conformal:Conformal", "calibrator", "scores", "normals", "p-values, and selection with a controlled false-discovery rate", "Bates et al., Annals of Statistics 2023, arXiv 2104.08279"),
    Entry("squash", "assay.calibration.squash:Squash", "calibrator", "scores", "none", "Probability one half at the contamination quantile", "Vercruyssen et al., ICDM 2018"),
    Entry("contamination_posterior", "assay.calibration.contamination:ContaminationPosterior", "calibrator", "scores", "none", "Posterior of the share of anomalies, from the scores of several detectors", "Perini et al., ICML 2023, arXiv 2210.10487"),
    Entry("uniform_box", f"{_GENERATORS}:UniformBox", "generator", "tables", "normals", "Uniform in the inflated bounding box", "Sipple, ICML 2020"),
    Entry("permutation", f"{_GENERATORS}:Permutation", "generator", "tables", "normals", "Columns shuffled independently: marginals kept, dependence lost", "Sipple, ICML 2020"),
    Entry("global", f"{_GENERATORS}:Global", "generator", "tables", "normals", "Uniform beyond the range of each feature", "Han et al., NeurIPS 2022, arXiv 2206.09426"),
    Entry("local", f"{_GENERATORS}:Local", "generator", "tables", "normals", "Gaussian mixture with inflated covariances", "Han et al., NeurIPS 2022, arXiv 2206.09426"),
    Entry("cluster", f"{_GENERATORS}:Cluster", "generator", "tables", "normals", "Gaussian mixture with displaced means", "Han et al., NeurIPS 2022, arXiv 2206.09426"),
    Entry("dependency", f"{_GENERATORS}:Dependency", "generator", "tables", "normals", "Each feature drawn on its own from a kernel density", "Han et al., NeurIPS 2022, arXiv 2206.09426"),
    Entry("subspace_noise", f"{_GENERATORS}:SubspaceNoise", "generator", "tables", "normals", "Gaussian noise on a random subset of the features", "Goodge et al., AAAI 2022, arXiv 2112.05355"),
    Entry("feature_swap", f"{_GENERATORS}:FeatureSwap", "generator", "tables", "normals", "Some features, each taken from another row", "Bahri et al., ICLR 2022, arXiv 2106.15147"),
    Entry("mixup", f"{_GENERATORS}:Mixup", "generator", "tables", "normals", "Points between clusters of normals", "Zhang et al., ICLR 2018, arXiv 1710.09412"),
    Entry("smote", f"{_GENERATORS}:Smote", "generator", "tables", "normals+anomalies", "Points between real anomalies", "Chawla et al., JAIR 2002"),
    Entry("boundary", f"{_GENERATORS}:Boundary", "generator", "tables", "normals", "The least likely draws of a Gaussian fitted to the normals", "Du et al., ICLR 2022, arXiv 2202.01197"),
    Entry("foreign_rows", f"{_GENERATORS}:ForeignRows", "generator", "tables", "normals", "Rows of other data sets brought to the same width", "Hendrycks et al., ICLR 2019, arXiv 1812.04606"),
    Entry("feature_noise", "assay.generators.features:FeatureNoise", "generator", "tables", "normals", "Gaussian noise on every dimension of an embedding", "Liu et al., CVPR 2023, arXiv 2303.15140"),
    Entry("glass_features", "assay.generators.features:GlassFeatures", "generator", "tables", "normals", "Noise on embeddings that climbs a discriminator's loss within a shell", "Chen et al., ECCV 2024, arXiv 2407.09359", "deep"),
    Entry("cut_paste", f"{_IMAGES}:CutPaste", "generator", "images", "normals", "A rectangle of the image pasted elsewhere", "Li et al., CVPR 2021, arXiv 2104.04015", "images"),
    Entry("cut_paste_scar", f"{_IMAGES}:CutPasteScar", "generator", "images", "normals", "A thin rotated strip of the image pasted elsewhere", "Li et al., CVPR 2021, arXiv 2104.04015", "images"),
    Entry("perlin_texture", f"{_IMAGES}:PerlinTexture", "generator", "images", "normals", "A foreign texture where Perlin noise is high", "Zavrtanik et al., ICCV 2021, arXiv 2108.07610", "images"),
    Entry("natural_patch", f"{_IMAGES}:NaturalPatch", "generator", "images", "normals", "Patches of other images blended in without a seam", "Schlüter et al., ECCV 2022, arXiv 2109.15222", "images"),
    Entry("interpolation", f"{_IMAGES}:Interpolation", "generator", "images", "normals", "A square mixed with that of another image", "Tan et al., MELBA 2022, arXiv 2011.04197", "images"),
    Entry("poisson_interpolation", f"{_IMAGES}:PoissonInterpolation", "generator", "images", "normals", "The same for gradients", "Tan et al., MICCAI 2021, arXiv 2107.02622", "images"),
    Entry("local_texture", f"{_IMAGES}:LocalTexture", "generator", "images", "normals", "A foreign texture half transparent on the object", "Chen et al., ECCV 2024, arXiv 2407.09359", "images"),
    Entry("pixel_noise", f"{_IMAGES}:PixelNoise", "generator", "images", "normals", "Gaussian noise on every pixel: the floor", "", "images"),
    Entry("gutentag", f"{_WINDOWS}.gutentag:GutenTAG", "generator", "windows", "normals", "Ten kinds of anomalies on one section of one channel", "Wenig et al., PVLDB 2022"),
    Entry("tods", f"{_WINDOWS}.tods:TODS", "generator", "windows", "normals", "Point, shapelet, trend and seasonal outliers", "Lai et al., NeurIPS 2021"),
    Entry("anomalybert", f"{_WINDOWS}.anomalybert:AnomalyBERT", "generator", "windows", "normals", "Intervals replaced softly by others, constants, peaks", "Jeong et al., 2023, arXiv 2305.04468"),
    Entry("carla", f"{_WINDOWS}.carla:CARLA", "generator", "windows", "normals", "Seasonal, trend, global, contextual and shapelet anomalies", "Darban et al., Pattern Recognition 2025, arXiv 2308.09296"),
    Entry("couta", f"{_WINDOWS}.couta:COUTA", "generator", "windows", "normals", "The end of a window goes wrong", "Xu et al., TKDE 2024, arXiv 2207.12201"),
    Entry("ncad", f"{_WINDOWS}.ncad:NCAD", "generator", "windows", "normals", "The end of another window, or a spike", "Carmona et al., IJCAI 2022, arXiv 2107.07702"),
    Entry("cut_add_paste", f"{_WINDOWS}.cut_add_paste:CutAddPaste", "generator", "windows", "normals", "A sloped piece of another window", "Wang et al., KDD 2024"),
    Entry("step_noise", f"{_WINDOWS}.common:StepNoise", "generator", "windows", "normals", "Gaussian noise on every step: the floor"),
    Entry("event_edits", "assay.generators.events:EventEdits", "generator", "events", "normals", "Events inserted, deleted, replaced, moved, repeated; sequences cut or spliced"),
    Entry("unlikely_events", "assay.generators.events:UnlikelyEvents", "generator", "events", "normals", "Events where an n-gram model finds them unlikely"),
    Entry("mean_image", f"{_PICTURES}.mean_image:MeanImage", "detector", "images", "normals", "Distance to the mean normal image: the baseline", "", "images", True),
    Entry("patchcore", f"{_PICTURES}.patchcore:PatchCore", "detector", "images", "normals", "Distance to the nearest of a coreset of normal patches", "Roth et al., CVPR 2022, arXiv 2106.08265", "images", True),
    Entry("padim", f"{_PICTURES}.padim:PaDiM", "detector", "images", "normals", "A Gaussian of pretrained features for every place", "Defard et al., ICPR workshops 2020, arXiv 2011.08785", "images", True),
    Entry("vae_gan", f"{_PICTURES}.vae_gan:VAEGAN", "detector", "images", "normals", "Differences to the reconstruction by a variational autoencoder with a discriminator", "Rashid et al., xAI 2024, arXiv 2407.19951", "images", True),
    Entry("simplenet", f"{_PICTURES}.simplenet:SimpleNet", "detector", "images", "normals", "Normal patch features told from the same with noise on them", "Liu et al., CVPR 2023, arXiv 2303.15140", "images", True),
    Entry("efficientad", f"{_PICTURES}.efficientad:EfficientAD", "detector", "images", "normals", "A small student's and an autoencoder's failure to imitate a teacher", "Batzner et al., WACV 2024, arXiv 2303.14535", "images", True),
    Entry("mean_shifted_contrastive", f"{_PICTURES}.mean_shifted:MeanShiftedContrastive", "detector", "images", "normals", "Near neighbours in features tuned by contrast about their mean", "Reiss and Hoshen, AAAI 2023, arXiv 2106.03844", "images"),
    Entry("outlier_exposure", f"{_PICTURES}.outlier_exposure:OutlierExposure", "detector", "images", "normals+anomalies", "A small network on pretrained features, shown auxiliary outliers", "Hendrycks et al., ICLR 2019, arXiv 1812.04606", "images"),
    Entry("gaussian_ad", f"{_PICTURES}.gaussian_ad:GaussianAD", "detector", "images", "normals", "A Gaussian of the pooled features of every level", "Rippel et al., ICPR 2020, arXiv 2005.14140", "images"),
    Entry("pni", f"{_PICTURES}.pni:PNI", "detector", "images", "normals", "Distance to normal patches that may occur here, next to these", "Bae et al., ICCV 2023, arXiv 2211.12634", "images", True),
    Entry("median_deviation", f"{_SERIES}.median_deviation:MedianDeviation", "detector", "series", "normals", "Distance to the training median: one line"),
    Entry("moving_average", f"{_SERIES}.moving_average:MovingAverageResidual", "detector", "series", "normals", "Distance to the mean of the last steps"),
    Entry("sub_pca", f"{_SERIES}.sub_pca:SubPCA", "detector", "series", "normals", "What the principal components of windows leave unexplained", "Aggarwal, Outlier Analysis, 2017"),
    Entry("kmeans_windows", f"{_SERIES}.kmeans_windows:KMeansWindows", "detector", "series", "normals", "Distance of a window to the nearest typical one", "Yairi et al., i-SAIRAS 2001"),
    Entry("on_windows", f"{_SERIES}.on_windows:OnWindows", "detector", "series", "normals", "Any detector of tables on windows; an isolation forest by default"),
    Entry("robust_tsf", f"{_SERIES}.robust_tsf:RobustTSF", "detector", "series", "normals", "Residual of a forecaster trained on what lies on a robust trend", "Cheng et al., ICLR 2024, arXiv 2402.02032", "deep"),
    Entry("hypad", f"{_SERIES}.hypad:HypAD", "detector", "series", "normals", "Reconstruction, critic and certainty of windows on the Poincaré ball; TadGAN without the ball", "Flaborea et al., CVPR Workshops 2023, arXiv 2211.09224", "deep"),
    Entry("hpc_autoencoder", f"{_SERIES}.hpc_autoencoder:HPCAutoencoder", "detector", "series", "normals", "A wide, sparse autoencoder of a node's sensors: the largest error", "Borghesi et al., IAAI 2019, arXiv 1811.05269", "", True),
    Entry("telemetry_monitor", f"{_SERIES}.telemetry:TelemetryMonitor", "detector", "series", "normals", "Forecast residuals of telemetry, their events, and the covariates that account for them", "IAC 2024, arXiv 2411.05596", "telemetry"),
    Entry("oc4seq", f"{_EVENTS}.oc4seq:OC4Seq", "detector", "events", "normals", "Recurrent networks on the whole sequence and on its windows, each near a centre", "Wang et al., KDD 2021, arXiv 2008.13361", "deep", True),
    Entry("next_event", f"{_EVENTS}.next_event:NextEvent", "detector", "events", "normals", "Share of events that a small LSTM did not expect", "Du et al., CCS 2017", "deep", True),
    Entry("bag_of_events", f"{_EVENTS}.bag_of_events:BagOfEvents", "detector", "events", "normals", "What principal components of event counts leave unexplained", "Xu et al., SOSP 2009"),
    Entry("transitions", f"{_EVENTS}.transitions:Transitions", "detector", "events", "normals", "Improbable steps of a first-order Markov chain", "", "", True),
    Entry("image_embedder", "assay.embedders.images:ImageEmbedder", "embedder", "images", "none", "Pooled feature maps of a pretrained network", "", "images"),
    Entry("patch_embedder", "assay.embedders.images:PatchEmbedder", "embedder", "images", "normals", "The most unusual patch of an image", "", "images"),
    Entry("galaxy_shapes", "assay.embedders.galaxies:GalaxyShapes", "embedder", "images", "normals", "Ellipse fits at several levels of brightness, Hu's moments, power spectrum", "Lochner and Bassett, Astronomy and Computing 2021, arXiv 2010.11202", "images"),
    Entry("raw_windows", "assay.embedders.series:RawWindows", "embedder", "windows", "normals", "The values of a window, standardised by training"),
    Entry("spectral_windows", "assay.embedders.series:SpectralWindows", "embedder", "windows", "normals", "Power in bands of frequency, level, size, slope, extremes"),
    Entry("random_convolutions", "assay.embedders.series:RandomConvolutions", "embedder", "windows", "normals", "Responses of random dilated kernels: ROCKET", "Dempster et al., DMKD 2020, arXiv 1910.13051"),
    Entry("event_counts", "assay.embedders.events:EventCounts", "embedder", "events", "normals", "Counts of events and of pairs of neighbours"),
    Entry("event_vectors", "assay.embedders.events:EventVectors", "embedder", "events", "normals", "Events by the company they keep", "Levy and Goldberg, NeurIPS 2014"),
    Entry("rqgnn", f"{_GRAPHS}.rqgnn:RQGNN", "detector", "graphs", "normals+anomalies", "Rayleigh quotients and learned spectral filters of labelled graphs", "Dong et al., ICLR 2024, arXiv 2310.02861", "deep"),
    Entry("graph_gin", f"{_GRAPHS}.gin:GINClassifier", "detector", "graphs", "normals+anomalies", "A graph isomorphism network with sum pooling, trained on labelled graphs", "Xu et al., ICLR 2019, arXiv 1810.00826", "deep"),
    Entry("node_outliers", "assay.generators.graphs:NodeOutliers", "generator", "graphs", "normals", "Nodes that become a clique, or get the numbers of one unlike them", "Ding et al., SDM 2019"),
    Entry("graph_views", "assay.generators.graphs:GraphViews", "generator", "graphs", "normals", "GraphCL's views: nodes or edges gone, a part alone, numbers masked", "You et al., NeurIPS 2020, arXiv 2010.13902"),
    Entry("graph_rewiring", "assay.generators.graphs:GraphRewiring", "generator", "graphs", "normals", "Edges swapped, added at random or between communities, communities merged"),
    Entry("graph_motifs", "assay.generators.graphs:GraphMotifs", "generator", "graphs", "normals", "A clique, cycle or star of new nodes hangs on the graph"),
    Entry("feature_shuffle", "assay.generators.graphs:FeatureShuffle", "generator", "graphs", "normals", "The same numbers at other nodes"),
    Entry("on_graphs", "assay.detectors.graphs.on_graphs:OnGraphs", "detector", "graphs", "normals", "Any detector of tables, on embedded graphs"),
    Entry("graph_size", "assay.detectors.graphs.on_graphs:GraphSize", "detector", "graphs", "normals", "Distance to the mean size and density: the floor"),
    Entry("wl_neighbours", "assay.detectors.graphs.on_graphs:WLNeighbours", "detector", "graphs", "normals", "Distance to the k-th nearest graph by Weisfeiler-Lehman subtrees", "Shervashidze et al., JMLR 2011"),
    Entry("graph_statistics", "assay.embedders.graphs:GraphStatistics", "embedder", "graphs", "none", "Sizes, degrees, triangles, spectral moments, smoothness of the nodes' numbers"),
    Entry("weisfeiler_lehman", "assay.embedders.graphs:WeisfeilerLehman", "embedder", "graphs", "normals", "Counts of subtrees", "Shervashidze et al., JMLR 2011"),
    Entry("random_gin", "assay.embedders.random_gin:RandomGIN", "embedder", "graphs", "normals", "Features of an untrained graph network", "Thompson et al., ICLR 2022, arXiv 2201.09871", "deep"),
    Entry("odd_one_out", "assay.detectors.sets.odd_one_out:OddOneOut", "detector", "sets", "normals", "Equivariant layers find the member that does not belong", "Zaheer et al., NeurIPS 2017, arXiv 1703.06114", "deep", True),
    Entry("set_classifier", "assay.detectors.sets.deep_sets:SetClassifier", "detector", "sets", "normals+anomalies", "A network on the pooled features of the members, shown both kinds of sets", "Zaheer et al., NeurIPS 2017, arXiv 1703.06114", "deep"),
    Entry("one_class_sets", "assay.detectors.sets.deep_sets:OneClassSets", "detector", "sets", "normals", "Pooled features of the members near a centre", "Zaheer et al., NeurIPS 2017, arXiv 1703.06114", "deep"),
    Entry("mean_member_distance", "assay.detectors.sets.pointwise:MeanMemberDistance", "detector", "sets", "normals", "Mahalanobis distance of the members, averaged: the baseline", "", "", True),
    Entry("foreign_members", "assay.generators.sets:ForeignMembers", "generator", "sets", "normals", "Members of another set in the place of a set's own", "Zaheer et al., NeurIPS 2017, arXiv 1703.06114"),
    Entry("proportion_shift", "assay.generators.sets:ProportionShift", "generator", "sets", "normals", "Usual members in unusual proportions"),
    Entry("member_noise", "assay.generators.sets:MemberNoise", "generator", "sets", "normals", "Gaussian noise on every member: the floor"),
    Entry("set_statistics", "assay.embedders.sets:SetStatistics", "embedder", "sets", "normals", "Mean, deviation and quantiles of the members, and the size"),
    Entry("random_deep_sets", "assay.embedders.sets:RandomDeepSets", "embedder", "sets", "normals", "Mean of random cosines of the members", "Rahimi and Recht, NeurIPS 2007"),
    Entry("graph_hypersphere", f"{_GRAPHS}.hypersphere:GraphHypersphere", "detector", "graphs", "normals", "DOHSC, DO2HSC: a ball or a shell around orthogonal embeddings of graphs", "Zhang et al., ICLR 2024, arXiv 2302.06430", "deep"),
    Entry("hypersphere", f"{_TABULAR}.hypersphere:Hypersphere", "detector", "tables", "normals", "DOHSC, DO2HSC: a ball or a shell around orthogonal embeddings of rows", "Zhang et al., ICLR 2024, arXiv 2302.06430", "deep"),
    Entry("image_hypersphere", f"{_PICTURES}.hypersphere:ImageHypersphere", "detector", "images", "normals", "DOHSC, DO2HSC: a ball or a shell around orthogonal embeddings of whole images", "Zhang et al., ICLR 2024, arXiv 2302.06430", "images"),
)
# fmt: on


def find(name: str, role: str | None = None) -> Entry:
    """Return the entry called `name` (of `role`, if given).

    Raises
    ------
    KeyError
        If there is none; the message offers the nearest names.
    """
    entries = [entry for entry in SYSTEMS if role in (None, entry.role)]
    for entry in entries:
        if entry.name == name:
            return entry
    from difflib import get_close_matches

    names = [entry.name for entry in entries]
    near = get_close_matches(name, names, n=3, cutoff=0.5) or names
    raise KeyError(f"no {role or 'system'} is called {name!r}; did you mean {', '.join(near)}?")


def of_role(role: str, data: str | None = None) -> list[Entry]:
    """Return the entries of a role (and kind of data)."""
    return [entry for entry in SYSTEMS if entry.role == role and data in (None, entry.data)]


def load_class(entry: Entry) -> type:
    """Import the class of an entry.

    Raises
    ------
    MissingExtra
        If a library that its extra brings is not installed; the message names both.
    """
    import importlib

    module, name = entry.path.split(":")
    try:
        loaded: type = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        if not entry.extra or (error.name or "assay").startswith("assay"):
            raise
        missing = f"{name} needs {error.name}, which the extra {entry.extra!r} brings: pip install {error.name}"
        raise MissingExtra(missing) from error
    return loaded
