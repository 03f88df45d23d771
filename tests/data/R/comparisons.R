# Makes ../comparisons.json from ../ratings.csv: Rscript comparisons.R (R with coin and jsonlite)
# Mean scores and their intervals, Friedman's test, signed-rank tests, Holm's correction.
suppressMessages(library(coin))
d <- read.csv("../ratings.csv", stringsAsFactors = TRUE)
d$source_type <- sub("s_([a-z]+).*", "\\1", d$source)
d$driving_type <- sub("d_([a-z]+).*", "\\1", d$driving)
criteria <- c("naturalness", "jitter")

# The score interval holds every mean that the test with the variance of quasi-likelihood accepts.
score <- function(x, scale) {
  m <- mean(x)
  t <- function(mu) {
    d <- if (sd(x) > 0) var(x) / ((m - 1) * (scale - m)) else 1 / (scale - 1)
    (m - mu)^2 - qt(0.975, length(x) - 1)^2 / length(x) * d * (mu - 1) * (scale - mu)
  }
  end <- function(far) if (t(far) <= 0) far else uniroot(t, c(m + 1e-6 * sign(far - m), far), tol = 1e-14)$root
  c(end(1), end(scale))
}
scores <- lapply(split(d, d$method), function(its) {
  x <- tapply(its$naturalness, its$rater, mean)
  list(mean = mean(x), sd = sd(x), t = t.test(x)$conf.int, score = score(x, 5))
})
x <- rep(1:2, c(11, 4))
# prop.test's interval is Wilson's; Student's quantile and the sample variance make it ours.
z <- qt(0.975, 14) * sqrt(15 / 14)
scores$proportion <- list(n = 15, ones = 4, score = 1 + as.numeric(
  prop.test(4, 15, conf.level = 1 - 2 * pnorm(-z), correct = FALSE)$conf.int))
scores$alike <- list(score = score(rep(5, 9), 5))

friedman <- lapply(setNames(criteria, criteria), function(name) {
  table <- tapply(d[[name]], list(d$rater, interaction(d$source_type, d$driving_type, d$method)), mean)
  test <- friedman.test(table)
  # Kendall's W from the ranks: their variance beside the largest, with Kendall's correction of ties
  ranks <- t(apply(table, 1, rank)); n <- ncol(ranks); m <- nrow(ranks)
  ties <- sum(apply(ranks, 1, function(r) { t <- table(r); sum(t^3 - t) }))
  s <- sum((colSums(ranks) - m * (n + 1) / 2)^2)
  list(chi2 = unname(test$statistic), df = unname(test$parameter), p = test$p.value,
       kendall_w = 12 * s / (m^2 * (n^3 - n) - m * ties))
})

signed <- function(x, exact = TRUE) {
  test <- wilcoxsign_test(x ~ y, data = data.frame(x = x, y = 0), zero.method = "Pratt",
                          distribution = if (exact) "exact" else "asymptotic")
  ranks <- rank(abs(x))
  list(w = sum(ranks[x > 0]), p = as.numeric(pvalue(test)), z = as.numeric(statistic(test)),
       effect = sum(sign(x) * ranks) / sum(ranks[x != 0]))
}
set.seed(3)
vectors <- list(ties = round(rnorm(12, 0.4)), halves = round(2 * rnorm(25, 0.2)) / 2,
                untied = rnorm(15, 0.3), many = round(rnorm(150, 0.1)), thirds = c(-1, 1, 2, 2, 4, 0, 0, 3) / 3)
signed_ranks <- lapply(vectors, function(x) c(list(values = x), signed(x, length(x) <= 100)))

pair <- function(name, over, a, b) {
  mean_of <- function(level) with(d[d[[over]] == level, ], tapply(get(name), rater, mean))
  gaps <- round(mean_of(a) - mean_of(b), 9)
  c(list(criterion = name, over = over, first = a, second = b, difference = mean(gaps),
         interval = t.test(gaps)$conf.int), signed(gaps))
}
asked <- list(c("method", "fomm", "warp"), c("source_type", "front", "side"),
              c("driving_type", "front", "side"))
pairs <- unlist(lapply(asked, function(x) lapply(criteria, pair, x[1], x[2], x[3])), recursive = FALSE)
set.seed(4)
p <- round(c(runif(8, 0, 0.05), runif(4)), 4)
versions <- paste0("R ", getRversion(), ", coin ", packageVersion("coin"), ": comparisons.R")
result <- list(source = versions, scores = scores, friedman = friedman, signed_ranks = signed_ranks,
               pairs = pairs, holm = list(p = p, corrected = p.adjust(p, "holm")))
writeLines(jsonlite::toJSON(result, auto_unbox = TRUE, digits = NA, pretty = TRUE), "../comparisons.json")
